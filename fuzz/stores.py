"""Targets for what stores answer, and for what the content engine looks at besides its own formats."""

import contextlib
import hashlib
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from obstore.exceptions import GenericError

from entrepot.content.compressing import compress
from entrepot.content.delta.format import DeltaPart, DeltaRoot, Patch, PlainRange
from entrepot.content.delta.reading import DeltaCursor, rebuild_chunk
from entrepot.content.grouping import Group
from entrepot.content.manifest import Entry, EntryKind
from entrepot.content.patterns import Excludes
from entrepot.content.recovering import recover_ref
from entrepot.content.sealing import MAX_PLAIN, Generation, Purpose, derive_key, open_sealed
from entrepot.content.surprises import surprises_of
from entrepot.core.encoding import pack
from entrepot.core.errors import EntrepotError
from entrepot.core.secret import Secret
from entrepot.objects.keys import check_key
from entrepot.objects.vendor import is_behind_the_end, translated
from entrepot.protocol import SealedRef
from fuzz.target import Target, promise

_GENERATION: Final = Generation(1, Secret(bytes(32)))
_SIGNATURE: Final = "sig=c2lnbmF0dXJl"


def _recovered(payload: bytes) -> None:
    """Whatever opens under the content secret is one object, of a bounded size, with a reference that opens it."""
    digest = hashlib.sha256(payload).digest()
    key = derive_key(_GENERATION, Purpose.MANIFEST_ROOT, digest)
    data = AESGCM(key).encrypt(bytes(12), payload, None)
    ref = recover_ref(data, purpose=Purpose.MANIFEST_ROOT, generation=_GENERATION, payload_hash=digest)
    promise(len(open_sealed(data, ref)) == ref.plain_size <= MAX_PLAIN, "a reference was found that does not open")


def _key(data: bytes) -> None:
    """A name that a store lists, and that passes for a key, stays in its folder on every system."""
    key = check_key(data.decode("utf-8", "surrogateescape"))
    path, there = PurePosixPath("/store", key), PureWindowsPath("C:/store", key)
    promise(path.as_posix() == f"/store/{key}" and ".." not in path.parts, "a key escapes")
    promise(there.drive == "C:" and ":" not in key and not PureWindowsPath(key).is_reserved(), "a key is a device")


def _error(data: bytes) -> None:
    """What a store says beside its status and its code is told to nobody."""
    error = GenericError(f"{data.decode('utf-8', 'replace')} https://store.example/?{_SIGNATURE}")
    is_behind_the_end(error)
    told = translated(error, "objects/x")
    promise(_SIGNATURE not in str(told) and len(str(told)) < 300, "a store's words are passed on")


def _surprises(data: bytes) -> None:
    """Any name and any bytes can be looked at; each remark names the file."""
    name, _, plain = data.partition(b"\n")
    path = name.decode("utf-8", "replace") or "x"
    entries = (Entry(EntryKind.FILE, path, 0o644, len(plain)), Entry(EntryKind.FOLDER, "d"))
    found = surprises_of(Group(plain=plain, entries=entries))
    promise(all(path.startswith(each.path) for each in found), "a remark names another file")


def _excludes(data: bytes) -> None:
    pattern, _, path = data.decode("utf-8", "replace").partition("\n")
    excludes = Excludes([pattern])
    promise(bool(excludes), "a pattern counts for none")
    for folder in (False, True):
        excludes.match(path, folder=folder)


_PART_REF: Final = SealedRef(bytes(32), 5017, 5000, bytes(32), bytes(32))
_DELTA: Final = DeltaRoot(1, "pkg-1", 1, 2, bytes(32), bytes(32), 1, (_PART_REF, _PART_REF), (_PART_REF,))
_CHUNKS: Final = (bytes(32), bytes([1] * 32))
_PATCHES: Final = tuple(Patch(chunk, 0, at, 10, (PlainRange(0, 100),)) for at, chunk in enumerate(_CHUNKS))


def _cursor(data: bytes) -> None:
    """A delta that lies gives patches for the chunks that were asked for, or none; never other bytes."""
    cursor = DeltaCursor(_DELTA)
    cursor.feed(data)
    for chunk, patch in cursor.take(_CHUNKS).items():
        promise(chunk in _CHUNKS and patch.chunk == chunk, "a patch is for another chunk")
        with contextlib.suppress(EntrepotError):  # the client fetches the full object then
            rebuild_chunk(patch, bytes(100), bytes(100), _PART_REF)


STORES: Final[dict[str, Target]] = {
    "recovered_reference": Target(parse=_recovered, seeds=(b"\x00" + bytes(100), b"\x01" + compress(bytes(100), 3))),
    "store_key": Target(parse=_key, seeds=(b"objects/" + b"0" * 64, b"tx/2026-01-01/a.b=c+d@e")),
    "store_error": Target(parse=_error, seeds=(b"status code: 404 <Code>NoSuchBucket</Code>", b"InvalidCertificate")),
    "surprises": Target(
        parse=_surprises,
        seeds=(
            b"a/.git/config\nAKIA0123456789ABCDEF ",
            b"x.key\n-----BEGIN RSA PRIVATE KEY-----\nMIIE",
            b"y\nglpat-" + b"a" * 20,
        ),
    ),
    "exclude_pattern": Target(
        parse=_excludes, seeds=(b"**/c[a-z]che/**\na/cache/b", b"*.tmp\nx.tmp", b"build/\nbuild")
    ),
    "delta_cursor": Target(parse=_cursor, seeds=(pack(DeltaPart(1, _PATCHES)),)),
}
