"""``.publishsettings`` files: a management certificate with its subscriptions, as older clouds hand them out (R3).

Version 1 has the certificate (PKCS#12, base64, empty password) as ``ManagementCertificate`` of ``PublishProfile``,
version 2.0 on each ``Subscription``. The file is foreign XML: bounded, and without document types or entities.
"""

import base64
import binascii
import re
from typing import Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException  # type: ignore[import-untyped]  # it ships no types
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # as above

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB

MAX_FILE: Final = 256 * KIB
MAX_SUBSCRIPTIONS: Final = 100
_SUBSCRIPTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")
_CLASSIC_AZURE: Final = (
    ".management.core.windows.net",
    ".management.core.chinacloudapi.cn",
    ".management.core.usgovcloudapi.net",
    ".management.core.cloudapi.de",
)


class NotPublishSettingsError(BadInputError):
    """The file is no ``.publishsettings`` file, or one that cannot be used."""

    code = "not_publish_settings"


class PublishedSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription of the file, with the certificate that opens it (PKCS#12, empty password)."""

    id: str
    name: str
    url: str
    pfx: Secret

    @property
    def classic_azure(self) -> bool:
        """Whether the address is that of Azure's classic management API, which has been retired."""
        host = f".{(urlsplit(self.url).hostname or '').lower()}"
        return host.endswith(_CLASSIC_AZURE)


def is_publish_settings(data: bytes) -> bool:
    """Tell XML from PKCS#12 by the first character."""
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def load_publish_settings(data: bytes) -> tuple[PublishedSubscription, ...]:
    """Read a ``.publishsettings`` file of version 1 or 2.0.

    Raises:
        NotPublishSettingsError: what is wrong with it, and what to do.
    """
    if len(data) > MAX_FILE:
        raise NotPublishSettingsError(f"A .publishsettings file has at most {MAX_FILE // KIB} KiB.")
    try:
        root = fromstring(data, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise NotPublishSettingsError(
            "This is not a .publishsettings file: it is not plain XML.", next_step="Download it again, unchanged."
        ) from None
    if root.tag != "PublishData":
        raise NotPublishSettingsError("This XML is not a .publishsettings file: its root is not PublishData.")
    found = tuple(
        _subscription(profile, subscription)
        for profile in root.findall("PublishProfile")
        for subscription in profile.findall("Subscription")[: MAX_SUBSCRIPTIONS + 1]
    )
    if not 1 <= len(found) <= MAX_SUBSCRIPTIONS:
        raise NotPublishSettingsError(
            f"A .publishsettings file names 1 to {MAX_SUBSCRIPTIONS} subscriptions; this one names {len(found)}.",
            next_step="Import the certificate's .pfx file, and name the subscription when you create the cloud point.",
        )
    return found


def choose(found: tuple[PublishedSubscription, ...], wanted: str) -> PublishedSubscription:
    """The subscription with this id or name; with an empty one, the only one.

    Raises:
        BadInputError: several, and none was named; or none of that name.
    """
    matching = [one for one in found if wanted in (one.id, one.name)] if wanted else list(found)
    if len(matching) == 1 or (matching and len({one.pfx.reveal() for one in matching}) == 1 and not wanted):
        return matching[0]
    names = ", ".join(one.id for one in found[:10])
    problem = "names several subscriptions" if not wanted else f"names no subscription {wanted[:80]!r}"
    raise BadInputError(f"The .publishsettings file {problem}: {names}.", next_step="Say which one: --subscription ID.")


def _subscription(profile: Element, entry: Element) -> PublishedSubscription:
    identity, name = entry.get("Id", ""), entry.get("Name", "")
    encoded = entry.get("ManagementCertificate") or profile.get("ManagementCertificate") or ""
    url = entry.get("ServiceManagementUrl") or profile.get("Url") or ""
    if not _SUBSCRIPTION.fullmatch(identity):
        raise NotPublishSettingsError("A subscription of the .publishsettings file has no proper Id.")
    if not encoded:
        raise NotPublishSettingsError(
            f"The .publishsettings file has no ManagementCertificate for the subscription {identity}.",
            next_step="Download it again, or import the certificate's .pfx file instead.",
        )
    try:
        pfx = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise NotPublishSettingsError(
            f"The ManagementCertificate of the subscription {identity} is not base64 text.",
            next_step="Download the file again, unchanged.",
        ) from None
    return PublishedSubscription(id=identity, name=name[:128], url=url[:1024].rstrip("/"), pfx=Secret(pfx))
