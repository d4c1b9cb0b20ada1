"""Reading a manifest: the signed root, then its parts in order, nothing believed before it is checked.

Where the bytes come from does not matter: each object is verified against its reference, each part on its own, the
sequence over all parts, and the totals against the root. A reader that fetches asynchronously drives
:class:`PartSequence` itself.
"""

from collections.abc import Callable, Iterator
from typing import Final

from entrepot.content.digests import matches
from entrepot.content.manifest import MAX_PART, Entry, EntryKind, OrderCheck, Part, Root, decode_part, decode_root
from entrepot.content.references import MAX_PLAIN
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.core.paths import windows_problem
from entrepot.protocol import SealedRef

MAX_DOCUMENT: Final = MAX_PLAIN


def read_root(document: bytes, verify: Callable[[bytes], bytes]) -> Root:
    """Check a signed root.

    Args:
        document: the compact JWS, which is what the sealed root object opens to.
        verify: checks signature, key and ``typ`` (``SignedType.MANIFEST``) and gives the payload.

    Raises:
        TrustError: by ``verify``.
        FormatError: too large, or no root of a version this program reads.
    """
    if len(document) > MAX_DOCUMENT:
        raise FormatError("The manifest root is larger than any root can be.")
    return decode_root(verify(document))


def open_root(data: bytes, ref: SealedRef, verify: Callable[[bytes], bytes]) -> Root:
    """Open the sealed root object and check it.

    Raises:
        IntegrityError: the bytes are not the object, or open to other bytes than promised.
        TrustError: by ``verify``.
    """
    return read_root(open_sealed(data, ref, "manifest root"), verify)


class PartSequence:
    """Takes the parts of one manifest in order and checks what no part can show alone.

    Args:
        root: the checked root.
        for_windows: refuse what Windows cannot store, whatever the root promises.
    """

    def __init__(self, root: Root, *, for_windows: bool = False) -> None:
        self._root = root
        self._windows = for_windows or root.windows_safe
        self._order = OrderCheck(fold_case=self._windows)
        self._next = 0
        self._files = 0
        self._plain_size = 0

    @property
    def wanted(self) -> SealedRef | None:
        """The part to take next; None after the last."""
        return self._root.parts[self._next] if self._next < len(self._root.parts) else None

    def take(self, data: bytes) -> Part:
        """Open and check the part that :attr:`wanted` names.

        Args:
            data: its sealed bytes, from anywhere.

        Raises:
            IntegrityError: damaged bytes.
            FormatError: the part, or the sequence, breaks a rule of the format.
        """
        return self._take(open_sealed(data, self._next_ref(), "manifest part"))

    def take_plain(self, plain: bytes) -> Part:
        """The same for a part that is open already, such as one that a delta made.

        Raises:
            IntegrityError: other bytes than the root promises.
            FormatError: the part, or the sequence, breaks a rule of the format.
        """
        ref = self._next_ref()
        if len(plain) != ref.plain_size or not matches(ref.digest, plain):
            raise IntegrityError("A manifest part has other bytes than the root promises.")
        return self._take(plain)

    def _next_ref(self) -> SealedRef:
        ref = self.wanted
        if ref is None:
            raise FormatError("The manifest has no further part.")
        if ref.plain_size > MAX_PART:
            raise FormatError(f"A manifest part of {ref.plain_size} bytes is larger than any part can be.")
        return ref

    def _take(self, plain: bytes) -> Part:
        part = decode_part(plain)
        for entry in part.entries:
            self._accept(entry)
        self._next += 1
        if self.wanted is None:
            self._finish()
        return part

    def _accept(self, entry: Entry) -> None:
        if self._windows and (problem := windows_problem(entry.path)):
            raise FormatError(
                f"Windows cannot store {entry.path!r}: {problem}.",
                next_step="Publish it with --for-windows, which names all such paths, and rename them.",
            )
        self._order.accept(entry)
        if entry.kind == EntryKind.FILE and not entry.offset:
            self._files += 1
            self._plain_size += entry.size

    def _finish(self) -> None:
        self._order.finish()
        if (self._files, self._plain_size) != (self._root.files, self._root.plain_size):
            raise FormatError("The manifest's parts do not add up to the totals of its root.")


def parts(root: Root, fetch: Callable[[SealedRef], bytes], *, for_windows: bool = False) -> Iterator[Part]:
    """The parts in order, opened and checked; memory: one part.

    Args:
        fetch: the *sealed* bytes of a reference, from anywhere.

    Raises:
        IntegrityError: damaged bytes.
        FormatError: a rule of the format is broken. Entries given before are sound, but the manifest as a whole is
            proven only when the iterator ends.
    """
    sequence = PartSequence(root, for_windows=for_windows)
    while (ref := sequence.wanted) is not None:
        yield sequence.take(fetch(ref))
