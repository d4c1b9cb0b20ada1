"""The targets. Each parses bytes as its user does, and raises anything but an ``EntrepotError`` only for a defect."""

import hashlib
import io
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.client.treeindex import TreeIndex, build_index
from entrepot.cloud.oauth import assertion_of
from entrepot.content import archives, manifest
from entrepot.content.compressing import compress
from entrepot.content.delta.format import DeltaPart, DeltaRoot, Patch, PlainRange, decode_delta_part, decode_delta_root
from entrepot.content.delta.format import encode_delta_root as encode_delta
from entrepot.content.delta.patching import apply_patch, make_patch
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, OrderCheck, Part, Root
from entrepot.content.objectset import MAGIC, ObjectSet, encode_set
from entrepot.content.sealing import open_sealed
from entrepot.core.encoding import pack, to_json
from entrepot.core.paths import check_path, link_stays_inside
from entrepot.core.secret import Secret
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.allowances import Mark, decode_mark, encode_mark
from entrepot.protocol.enrolment import EnrolmentCode, parse_enrolment_code
from entrepot.protocol.transactions import MAGIC as SEGMENT_MAGIC
from entrepot.protocol.transactions import (
    Record,
    SegmentHeader,
    decode_segment,
    encode_header,
    encode_records,
    frame,
    frames,
)
from entrepot.trust.assertions import make_client_assertion, verify_client_assertion
from entrepot.trust.authority import make_csr, public_key_of
from entrepot.trust.certificates import load_pfx, new_management
from entrepot.trust.escrow import read_header
from entrepot.trust.inspection import certificate_name, describe, dns_names, load_cer, thumbprint, to_pem
from entrepot.trust.pem import load_chain
from entrepot.trust.publishsettings import load_publish_settings
from entrepot.trust.root import verify_trust_by_fingerprint
from entrepot.trust.signing import SigningKey, check_signature, sign, take_apart
from entrepot.web.addresses import network_of
from entrepot.web.copies import decode_verdicts
from entrepot.web.problems import error_from_problem
from entrepot.web.ranges import choose_span
from fuzz.documents import DOCUMENTS
from fuzz.stores import STORES
from fuzz.target import Target, promise

_NOISE: Final = random.Random(3)
_OLD: Final = _NOISE.randbytes(4000)
_NEW: Final = _OLD[:1500] + b"inserted" + _OLD[1600:]
_REF: Final = SealedRef(bytes(32), 5017, 5000, bytes(32), bytes(32))
_KEY: Final = SigningKey.from_private(Secret(bytes(range(32))))
_HASH: Final = digest_of(_NEW)


# ------------------------------------------------------------------------------------------------------- content


def _part(data: bytes) -> None:
    """Whatever is accepted stays within the target folder and within its chunks."""
    part = manifest.decode_part(data)
    order = OrderCheck(fold_case=True)
    for entry in part.entries:
        promise(check_path(entry.path) == entry.path and ".." not in entry.path.split("/"), "a path escapes")
        promise(not entry.target or link_stays_inside(entry.path, entry.target), "a link escapes")
        for extent in entry.extents:
            promise(extent.offset + extent.length <= part.chunks[extent.chunk].plain_size, "an extent leaves its chunk")
        order.accept(entry)
    order.finish()


def _sealed(payload: bytes) -> None:
    """A payload under the right key and id: only codec, sizes and hash are left to refuse it."""
    data = AESGCM(bytes(32)).encrypt(bytes(12), payload, None)
    ref = SealedRef(object_id_of(data), len(data), 1000, bytes(32), hashlib.sha256(bytes(1000)).digest())
    promise(open_sealed(data, ref) == bytes(1000), "an object opened to other bytes than promised")


def _object_set(data: bytes) -> None:
    members = ObjectSet(data)
    for each in members:
        each in members  # noqa: B015 - the look itself must not fail, whatever the order
    promise(len(list(members)) * 32 + len(MAGIC) == len(data), "a set has other members than bytes")


def _patch(data: bytes) -> None:
    promise(apply_patch(_OLD, data, size=len(_NEW), digest=_HASH) == _NEW, "a patch gave other bytes than promised")


def _archive(ending: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            archive, target = home / f"a{ending}", home / "in" / "target"
            archive.write_bytes(data)
            target.mkdir(parents=True)
            try:
                archives.unpack(archive, target, room=lambda: 1 << 24)
            finally:
                promise({each.name for each in home.iterdir()} == {archive.name, "in"}, "an archive wrote outside")
                promise([each.name for each in (home / "in").iterdir()] == ["target"], "an archive wrote outside")

    return parse


def _tree_index(data: bytes) -> None:
    """Whatever a damaged index answers stays within the tree and within what was asked for."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "index"
        path.write_bytes(data)
        with TreeIndex(path) as index:
            end = 0
            for piece in index.covering(_REF.object_id, _REF.plain_size) or ():
                promise(check_path(piece.path) == piece.path and piece.start == end, "pieces leave gaps")
                end += piece.length
            promise(end in (0, _REF.plain_size), "pieces are not the whole chunk")
            length = min(index.plain_size, 5000)
            found = index.ranges(index.plain_size - length, length)
            promise(sum(each.length for each in found) == length, "ranges are not what was asked for")


def _index() -> bytes:
    """Of a tree with the files of :data:`_PART`."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "index"
        build_index([manifest.decode_part(_PART)], path)
        return path.read_bytes()


_ENTRIES: Final = (
    Entry(EntryKind.FOLDER, "a"),
    Entry(EntryKind.FILE, "b/c", 0o644, 4000, bytes(32), 0, (Extent(0, 0, 3000), Extent(0, 10, 1000))),
    Entry(EntryKind.LINK, "b/d", target="../a"),
)
_PART: Final = pack(Part(1, (_REF,), _ENTRIES))
_ROOT: Final = pack(Root(1, "pkg-1", 1, 1, 4000, 1, 5017, True, (_REF,)))
_DELTA: Final = DeltaRoot(1, "pkg-1", 1, 2, bytes(32), bytes(32), 1, (_REF,), (_REF,))
_WHOLE: Final = Patch(bytes(32), 0, 0, 10, (PlainRange(0, 100),))


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/file", b"text" * 50)
    return made.getvalue()


def _tar(mode: Literal["w", "w:gz", "w:bz2", "w:xz"]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, kind, link in (("f", tarfile.REGTYPE, ""), ("l", tarfile.SYMTYPE, "f"), ("h", tarfile.LNKTYPE, "f")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"text") if member.size else None)
    return made.getvalue()


def _deb() -> bytes:
    """The members of a Debian package, in the archive format of ``ar``."""
    made = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar", _tar("w")), ("data.tar", _tar("w"))):
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return made


# --------------------------------------------------------------------------------------- trust, protocol, the web


def _signed(typ: SignedType) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        check_signature(take_apart(data, typ=typ), _KEY.public)

    return parse


def _trust(data: bytes) -> None:
    verify_trust_by_fingerprint(data, hashlib.sha256(_KEY.public).digest())


def _segment(data: bytes) -> None:
    for _ in decode_segment(data)[1]:
        pass


def _torn(data: bytes) -> None:
    """A journal that a crash cut: the frames that are whole, and nothing behind them."""
    last = len(SEGMENT_MAGIC)
    for end, payload in frames(data, torn_tail=True):
        promise(last < end <= len(data) and len(payload) > 0, "a frame leaves its segment")
        last = end


def _range(data: bytes) -> None:
    span = choose_span(data.decode("latin-1"), 1000)
    promise(span.start >= 0 and span.length > 0 and span.start + span.length <= 1000, "a range leaves its object")


def _certificate(data: bytes) -> None:
    """All that is asked of a certificate that an administrator hands in."""
    certificate = load_cer(data)
    describe(certificate), thumbprint(certificate), certificate_name(certificate), dns_names(certificate)


def _peer(data: bytes) -> None:
    """What counts as one address is told in few characters, whatever a front writes."""
    network = network_of(data.decode("latin-1"))
    promise(len(network) <= 64, "an address may fill memory")


_FORM: Final = urlencode(
    {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
    }
).encode()
_CODE: Final = EnrolmentCode(
    url="https://site.example:443", site="PS1", code_id="code-1", secret=bytes(16), fingerprint=bytes(32)
).encode()
_SEGMENT: Final = encode_header(SegmentHeader("point", "instance", 0, bytes(32), 1)) + encode_records(
    [Record(1, "device", bytes(32), bytes(32), 200, 5, 5)]
)
_PUBLISHED: Final = (
    b'<PublishData><PublishProfile PublishMethod="AzureServiceManagementAPI" Url="https://cloud.example" '
    b'ManagementCertificate="AAAA"><Subscription Id="one" Name="One"/></PublishProfile></PublishData>'
)
# What `protect` made once: the key of its passphrase takes a second of a processor, in every process that loads this.
_ESCROW: Final = b"""-----BEGIN ENTREPOT SECRETS-----
ksRSmgGhaMQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACjUFMxAQPO
AAQAAATEECcaSfmYcDMdUW6Avo+C+Z3EDI2X+vBKY0fndLJnasQUSjNfwnbvEvkS
V/znjayIjhdPGvs=
-----END ENTREPOT SECRETS-----
"""
_PAIR: Final = new_management("fuzz", 30, "ec", now=0.0)
_PFX: Final = _PAIR.pfx(Secret(b"x"))
_CHAIN: Final = to_pem(_PAIR.certificate).encode()
_EC: Final = ec.generate_private_key(ec.SECP256R1())
_ASSERTION: Final = make_client_assertion(
    _PAIR.key, _PAIR.certificate, subscription="sub-1", audience="https://host.example", now=0.0, jti="1"
)
_TOKEN: Final = sign(b"{}", typ=SignedType.MANIFEST, key=_KEY).encode()

TARGETS: Final[dict[str, Target]] = (
    {
        "manifest_root": Target(parse=manifest.decode_root, seeds=(_ROOT,)),
        "manifest_part": Target(parse=_part, seeds=(_PART,)),
        "sealed": Target(parse=_sealed, seeds=(b"\x00" + bytes(1000), b"\x01" + compress(bytes(1000), 3))),
        "object_set": Target(parse=_object_set, seeds=(b"".join(encode_set([bytes(32), bytes([1] * 32)])),)),
        "delta_root": Target(parse=decode_delta_root, seeds=(encode_delta(_DELTA),)),
        "delta_part": Target(
            parse=lambda data: decode_delta_part(data, _DELTA), seeds=(pack(DeltaPart(1, (_WHOLE,))),)
        ),
        "delta_patch": Target(parse=_patch, seeds=(make_patch(_OLD, _NEW),)),
        "tree_index": Target(parse=_tree_index, seeds=(_index(),)),
        "archive_zip": Target(parse=_archive(".zip"), seeds=(_zip(),)),
        "archive_tar": Target(parse=_archive(".tar"), seeds=(_tar("w"),)),
        "archive_tar_gz": Target(parse=_archive(".tar.gz"), seeds=(_tar("w:gz"),)),
        "archive_tar_bz2": Target(parse=_archive(".tar.bz2"), seeds=(_tar("w:bz2"),)),
        "archive_tar_xz": Target(parse=_archive(".tar.xz"), seeds=(_tar("w:xz"),)),
        "archive_tar_zst": Target(parse=_archive(".tar.zst"), seeds=(compress(_tar("w"), 3),)),
        "archive_deb": Target(parse=_archive(".deb"), seeds=(_deb(),)),
        "signed_document": Target(parse=_signed(SignedType.MANIFEST), seeds=(_TOKEN,)),
        "trust_document": Target(
            parse=_trust, seeds=(sign(to_json({"keys": []}), typ=SignedType.TRUST, key=_KEY, show_key=True).encode(),)
        ),
        "transaction_segment": Target(parse=_segment, seeds=(_SEGMENT,)),
        "torn_journal": Target(parse=_torn, seeds=(SEGMENT_MAGIC + frame(b"one") + frame(b"two"),)),
        "enrolment_code": Target(
            parse=lambda data: parse_enrolment_code(data.decode("utf-8", "surrogateescape")), seeds=(_CODE.encode(),)
        ),
        "exported_secrets": Target(parse=read_header, seeds=(_ESCROW,)),
        "certificate_file": Target(parse=lambda data: load_pfx(data, Secret(b"x"), 0.0), seeds=(_PFX,)),
        "certificate": Target(parse=_certificate, seeds=(_PAIR.cer, _CHAIN)),
        "certificate_chain": Target(parse=lambda data: load_chain(data.decode("latin-1")), seeds=(_CHAIN,)),
        "certificate_request": Target(parse=public_key_of, seeds=(make_csr(_EC),)),
        "client_assertion": Target(
            parse=lambda data: verify_client_assertion(
                data.decode("latin-1"), [_PAIR.cer], "https://host.example", now=1.0
            ),
            seeds=(_ASSERTION.encode(),),
        ),
        "token_form": Target(parse=assertion_of, seeds=(_FORM,)),
        "address_of_a_peer": Target(
            parse=_peer, seeds=(b"10.0.0.1:443", b"[2001:db8::1%eth0]:443", b"::ffff:10.0.0.1")
        ),
        "mark_of_an_instance": Target(parse=decode_mark, seeds=(encode_mark(Mark(before=0, segments=0, at=0)),)),
        "publish_settings": Target(parse=load_publish_settings, seeds=(_PUBLISHED,)),
        "problem": Target(parse=lambda data: error_from_problem(500, data), seeds=(b'{"title": "x", "code": "x"}',)),
        "range_header": Target(parse=_range, seeds=(b"bytes=1-5", b"bytes=-5")),
        "verdicts": Target(parse=lambda data: decode_verdicts(data, 3), seeds=(b"\x00\x01\x02",)),
    }
    | DOCUMENTS
    | STORES
)
