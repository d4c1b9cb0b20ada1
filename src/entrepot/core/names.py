"""What makes two names the same."""

import unicodedata


def name_key(name: str) -> str:
    """Two names with equal keys are the same name."""
    return unicodedata.normalize("NFC", name.strip()).casefold()
