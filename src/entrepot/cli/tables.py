"""Tables on a terminal as narrow as it may be: no word of a cell is broken, so that ids and times can be copied.

Columns give way where they have most to give. Where the longest words of all columns do not fit side by side, each row
is shown as a block, one line for each of its cells.
"""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_BETWEEN = 3
"""Columns of the terminal that lie between two columns of a table."""
_EDGES = 2


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show rows below their headings, or as blocks.

    Args:
        columns: headings; a ``>`` before one aligns its column to the right.
        rows: of as many cells, each one line; nothing in them is taken for markup, or for the name of a picture.
    """
    headings = [column.lstrip(">") for column in columns]
    widths = column_widths([headings, *rows], console.width - _EDGES - _BETWEEN * (len(columns) - 1))
    if widths is None:
        _print_blocks(console, headings, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column, heading, width in zip(columns, headings, widths, strict=True):
        table.add_column(
            Text(heading), justify="right" if column.startswith(">") else "left", width=width, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def column_widths(lines: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """How wide each column is to be, headings among the lines; None if words would have to be broken.

    Args:
        available: what all columns together may take, without what lies between them.
    """
    columns = list(zip(*lines, strict=True))
    narrowest = [max(map(cell_len, " ".join(cells).split()), default=1) for cells in columns]
    widths = [max(map(cell_len, cells)) for cells in columns]
    if sum(narrowest) > available:
        return None
    for _ in range(sum(widths) - available):
        wider = [at for at, width in enumerate(widths) if width > narrowest[at]]
        widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


def _print_blocks(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(map(len, headings))
    for row in rows:
        console.print()
        for heading, cell in zip(headings, row, strict=True):
            if cell:
                console.print(Text.assemble((f"{heading:<{width}}", "bold"), "  ", cell), soft_wrap=True)
