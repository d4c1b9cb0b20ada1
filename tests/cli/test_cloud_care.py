"""Upload windows and what a request for Azure needs, as the command line reads them."""

import pytest

from entrepot.cli.cloudcare import parse_window
from entrepot.core.errors import BadInputError
from entrepot.protocol.cloudapi import UploadWindow


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 08:00-18:00 0", UploadWindow(begin=480, end=1080, days=(1, 2, 3, 4, 5))),
        ("Sat,Sun 00:00-24:00 2MB", UploadWindow(begin=0, end=1440, days=(6, 7), bytes_per_second=2_000_000)),
        ("fri-mon 22:00-06:00 500KB", UploadWindow(begin=1320, end=360, days=(5, 6, 7, 1), bytes_per_second=500_000)),
    ],
)
def test_windows_are_read_as_people_write_them(text, window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "mon", "mon 8-18 0", "mon 08:00-25:00 0", "xyz 08:00-18:00 0", "mon 08:60-18:00 0", "mon 1:0-2:0 fast"]
)
def test_other_texts_are_refused_with_an_example(text) -> None:
    with pytest.raises(BadInputError):
        parse_window(text)
