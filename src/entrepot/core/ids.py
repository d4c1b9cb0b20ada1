"""Identifiers: each kind has its own type, its own text form and its own check.

An object id is SHA-256 over the concatenated SHA-256 hashes of the sealed bytes' 64 KiB blocks, which is the
BranchCache v1 segment *hash of data* ([MS-PCCRC] 2.2); in text it is 64 lower-case hexadecimal digits.
"""

import re
from typing import NewType

from entrepot.core.errors import BadInputError

ObjectId = NewType("ObjectId", bytes)
ContentId = NewType("ContentId", str)
PointId = NewType("PointId", str)
DeviceId = NewType("DeviceId", str)
SiteCode = NewType("SiteCode", str)

OBJECT_ID_BYTES = 32

_HEX = re.compile(r"[0-9a-f]{64}")
_SITE_CODE = re.compile(r"[A-Z0-9]{3}")
_PREFIXED = re.compile(r"(?P<prefix>[a-z]{2,8})-[0-9a-f]{16}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def object_id_from_hex(text: str) -> ObjectId:
    """Parse 64 lower-case hexadecimal digits.

    Raises:
        BadInputError: any other text.
    """
    if not _HEX.fullmatch(text):
        raise BadInputError("An object id is 64 lower-case hexadecimal digits.")
    return ObjectId(bytes.fromhex(text))


def site_code(text: str) -> SiteCode:
    """Check a site code: three capital letters or digits, as in Configuration Manager.

    Raises:
        BadInputError: any other text.
    """
    if not _SITE_CODE.fullmatch(text):
        raise BadInputError(
            f"{text!r} is not a site code.", next_step="Use three capital letters or digits, such as PS1."
        )
    return SiteCode(text)


def prefixed_id(prefix: str, random: bytes) -> str:
    """Make an id such as ``dev-0123456789abcdef`` from eight random bytes."""
    assert len(random) == 8
    return f"{prefix}-{random.hex()}"


def is_prefixed_id(text: str, prefix: str) -> bool:
    """Tell whether ``text`` is an id of that kind (``pkg``, ``dev``, ``pt``, ``sub`` …)."""
    match = _PREFIXED.fullmatch(text)
    return match is not None and match["prefix"] == prefix


def service_name(text: str) -> str:
    """Check a cloud service name: a DNS label (RFC 1123), as it becomes part of a host name.

    Raises:
        BadInputError: any other text.
    """
    if not _NAME.fullmatch(text):
        raise BadInputError(
            f"{text!r} is not a service name.",
            next_step="Use lower-case letters, digits and inner hyphens, at most 63 characters.",
        )
    return text
