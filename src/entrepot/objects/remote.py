"""A store behind HTTPS: what S3 and Azure Blob have in common, by obstore.

All calls are obstore's synchronous ones, made in worker threads: its asynchronous ones abort the interpreter at exit
now and then. obstore's own retries are off: ``retry`` does that, visibly. Every value travels in one request.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, NotModifiedError
from obstore.store import AzureStore, S3Store

from entrepot.core.errors import BadInputError, NotFoundError, UnavailableError
from entrepot.core.times import Clock
from entrepot.objects.gathering import gathered
from entrepot.objects.keys import check_key, check_range, check_seconds, check_size
from entrepot.objects.store import Fetched, NoUrl, Page, SignedUrl, Stored, Unchanged
from entrepot.objects.vendor import is_behind_the_end, vendor_errors

if TYPE_CHECKING:  # obstore offers it to type checkers only
    from obstore import GetResult

PIECE: Final = 256 * 1024
_BATCH: Final = 1000
Client = S3Store | AzureStore


class RemoteStore:
    """An :class:`~entrepot.objects.store.ObjectStore` in a bucket or container, below a prefix of its own.

    Args:
        client: gives obstore's store for the next request; credentials may have changed since the last.
        prefix: begins every key there; a key that passed ``check_key`` cannot leave it.
        tells_deletions: whether the service says that a key it was to delete was not there.
    """

    def __init__(self, client: Callable[[], Client], *, prefix: str, tells_deletions: bool, clock: Clock) -> None:
        self._client = client
        self._prefix = check_key(prefix) + "/" if prefix else ""
        self._tells_deletions = tells_deletions
        self._clock = clock

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        del durable  # always
        path = self._path(key)
        with gathered(data) as whole, vendor_errors(key):
            try:
                mode = "create" if if_absent else "overwrite"
                obstore.put(self._client(), path, whole, mode=mode, use_multipart=False)  # type: ignore[arg-type]  # a literal
            except AlreadyExistsError:
                return False
        return True

    def flush(self) -> None:
        """See :meth:`ObjectStore.flush`: what was put is durable already."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        path = self._path(key)
        check_range(start, length)
        if length == 0:
            self.stat(key)  # a missing key is named, however little of it is wanted
            return
        with vendor_errors(key):
            found = self._get(path, start, length)
            if found is None:
                return
            begin, end = found.range
            left = end - begin
            for batch in found.stream(min_chunk_size=PIECE):
                view = memoryview(batch)
                left -= len(view)
                for at in range(0, len(view), PIECE):
                    yield bytes(view[at : at + PIECE])
        if left:
            raise UnavailableError(f"The object store ended {key} {left} bytes too early.", next_step="Try again.")

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`: one conditional GET."""
        path = self._path(key)
        with vendor_errors(key):
            try:
                found = obstore.get(self._client(), path, options={"if_none_match": known} if known else None)
            except NotModifiedError:
                return Unchanged()
            size = found.meta["size"]
            check_size(key, size, limit)
            data = bytes(found.bytes())
        if len(data) != size:
            raise UnavailableError(f"The object store ended {key} too early.", next_step="Try again.")
        return Fetched(data=data, version=found.meta["e_tag"] or "")

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        path = self._path(key)
        with vendor_errors(key):
            found = obstore.head(self._client(), path)
        return Stored(key=key, size=found["size"], modified=found["last_modified"].timestamp())

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`. On S3 this is two requests: it deletes silently what is not there."""
        path = self._path(key)
        try:
            if not self._tells_deletions:
                self.stat(key)
            with vendor_errors(key):
                obstore.delete(self._client(), path)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`. Memory: one page of the service."""
        found: list[Stored] = []
        with vendor_errors(f"the list of {prefix or 'all'} keys"):
            for entry in self._entries(prefix, after):
                if len(found) == limit:
                    return Page(entries=tuple(found), more=True)
                found.append(entry)
        return Page(entries=tuple(found), more=False)

    def link(self, key: str, *, seconds: int) -> SignedUrl | NoUrl:
        """See :meth:`ObjectStore.link`."""
        path = self._path(key)
        expires = self._clock() + check_seconds(seconds)
        with vendor_errors(key):
            url = obstore.sign(self._client(), "GET", path, timedelta(seconds=seconds))
        return SignedUrl(url=url, expires=expires)

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _get(self, path: str, start: int, length: int | None) -> "GetResult | None":
        """None when the range begins behind the end."""
        try:
            if length is not None:
                return obstore.get(self._client(), path, options={"range": (start, start + length)})
            if start:
                return obstore.get(self._client(), path, options={"range": {"offset": start}})
            return obstore.get(self._client(), path)
        except GenericError as error:
            if not is_behind_the_end(error):
                raise
            return None

    def _entries(self, prefix: str, after: str) -> Iterator[Stored]:
        """Keys ascending. obstore's prefix is a whole folder, and some services ignore the offset: filter again."""
        folder = (self._prefix + prefix).rpartition("/")[0]
        begin = max(after, _before(prefix))
        batches = obstore.list(
            self._client(),
            prefix=folder or None,
            offset=self._prefix + begin if begin else None,
            chunk_size=_BATCH,
        )
        for batch in batches:
            for found in batch:
                key = found["path"].removeprefix(self._prefix)
                if key[: len(prefix)] > prefix:
                    return
                if key > after and key.startswith(prefix) and _is_key(key):
                    yield Stored(key=key, size=found["size"], modified=found["last_modified"].timestamp())


def _before(prefix: str) -> str:
    """A text that no key equals, before all keys with this prefix and behind all keys before them."""
    return prefix[:-1] + chr(ord(prefix[-1]) - 1) + "~" if prefix else ""


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except BadInputError:
        return False  # somebody else's
    return True
