"""Rows that tests enter into a site's database without publishing or creating anything."""

from typing import Any

from entrepot.database.cloud import ManagementCertificate
from entrepot.database.contents import Content
from entrepot.protocol.contentapi import ContentType


def content_row(content: str, name: str, **more: Any) -> Content:
    """A package without versions; ``more`` are fields that matter to the test."""
    plain = dict.fromkeys(("for_windows", "isolated", "deleting"), False) | dict.fromkeys(
        ("current", "pointer_counter", "created"), 0
    )
    fields = {"type": ContentType.PACKAGE, "source": "/src", "excludes": (), "site": "PS1"} | plain | more
    return Content(id=content, name=name, **fields)


def certificate_row() -> ManagementCertificate:
    """A management certificate whose key opens nothing."""
    return ManagementCertificate(
        id="cert-1",
        name="m",
        subject="CN=m",
        thumbprint="00",
        key_kind="ec",
        not_before=0,
        not_after=1,
        imported=0,
        certificate=b"",
        sealed_key=b"",
    )
