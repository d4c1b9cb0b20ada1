"""The process that gathers a large source: ``content/apart.py`` starts it, and takes what it gives.

It imports little, for until its first group has come nobody has anything to do.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from entrepot.content.frames import GroupHead, failure, send
from entrepot.content.gathering import Asked, gather
from entrepot.content.grouping import Group
from entrepot.core.encoding import unpack
from entrepot.core.errors import EntrepotError

READERS: Final = 4
"""So many runs of files at once where the source lets one wait."""


def main() -> None:
    """Gather what standard input asks for, to standard output."""
    order = sys.stdin.buffer.read()
    if not order:
        return  # a spare that nobody needed: the server has ended
    asked = unpack(order, Asked, "x")
    out = sys.stdout.fileno()
    try:
        with ThreadPoolExecutor(READERS) as pool:
            for piece in gather(asked, pool):
                if isinstance(piece, Group):
                    send(out, GroupHead(len(piece.plain), piece.entries), piece.plain)
                else:
                    send(out, piece)
    except EntrepotError as error:
        send(out, failure(error))
    except BrokenPipeError:  # nobody takes it any more
        sys.exit(1)


if __name__ == "__main__":
    main()
