"""A value that must be whole in memory before it can be stored or stored again, in bounded memory over all threads.

Stores far away take a value in one request: so it is stored whole or not at all, and the same bytes can be sent again.
Most values are small; a few at a time may be large.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from entrepot.core.errors import LimitedError
from entrepot.core.sizes import MIB

MAX_VALUE: Final = 64 * MIB
"""No value of a store is larger: as ``protocol.dataplane.MAX_OBJECT_BYTES``."""
LARGE: Final = 8 * MIB
_LARGE_AT_ONCE: Final = threading.BoundedSemaphore(2)


@contextlib.contextmanager
def gathered(data: bytes | Iterable[bytes]) -> Iterator[bytes]:
    """All of a value. Of those larger than ``LARGE`` two are held at a time; a third waits for its turn.

    Raises:
        LimitedError: more than ``MAX_VALUE`` bytes.
    """
    if isinstance(data, bytes):
        yield data
        return
    whole = bytearray()
    with contextlib.ExitStack() as stack:
        turn = False
        for piece in data:
            whole += piece
            if len(whole) > MAX_VALUE:
                raise LimitedError(f"No value of a store is larger than {MAX_VALUE} bytes.")
            if len(whole) > LARGE and not turn:
                stack.enter_context(_LARGE_AT_ONCE)
                turn = True
        value = bytes(whole)
        whole.clear()
        yield value
