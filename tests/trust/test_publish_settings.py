"""``.publishsettings`` files: what is read, and that nothing else of XML is."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.trust.certificates import load_pfx, new_management
from entrepot.trust.publishsettings import (
    MAX_FILE,
    NotPublishSettingsError,
    choose,
    is_publish_settings,
    load_publish_settings,
)

NOW = 1_774_274_400
V1 = """<?xml version="1.0" encoding="utf-8"?>
<PublishData>
  <PublishProfile PublishMethod="AzureServiceManagementAPI" Url="{url}" ManagementCertificate="{certificate}">
    {subscriptions}
  </PublishProfile>
</PublishData>"""
V2 = """<PublishData>
  <PublishProfile SchemaVersion="2.0" PublishMethod="AzureServiceManagementAPI">
    <Subscription ServiceManagementUrl="{url}" Id="sub-1" Name="One" ManagementCertificate="{certificate}"/>
  </PublishProfile>
</PublishData>"""
ONE = '<Subscription Id="sub-1" Name="One"/>'
TWO = ONE + '<Subscription Id="sub-2" Name="Two"/>'


def v1(subscriptions=ONE, certificate="QUJD", url="https://vm1.contoso.com:8440/") -> bytes:
    return V1.format(url=url, certificate=certificate, subscriptions=subscriptions).encode()


def without_password(pair) -> bytes:
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    return pkcs12.serialize_key_and_certificates(b"m", pair.key, pair.certificate, None, NoEncryption())


@pytest.mark.parametrize("form", [V1.replace("{subscriptions}", ONE), V2])
def test_both_forms_give_the_certificate_and_its_subscription(form):
    pair = new_management("Contoso", 30, "ec", now=NOW)
    text = form.format(url="https://vm1:8440", certificate=base64.b64encode(without_password(pair)).decode())
    (found,) = load_publish_settings(text.encode())
    assert (found.id, found.name, found.url, found.classic_azure) == ("sub-1", "One", "https://vm1:8440", False)
    assert load_pfx(found.pfx.reveal(), Secret(b""), NOW).certificate == pair.certificate
    assert "ABC" not in repr(found)


def test_azures_retired_api_is_recognised():
    (found,) = load_publish_settings(v1(url="https://management.core.windows.net/"))
    assert found.classic_azure
    (other,) = load_publish_settings(v1(url="https://management.core.windows.net.evil.example/"))
    assert not other.classic_azure


def test_of_several_subscriptions_one_is_named():
    found = load_publish_settings(v1(TWO))
    assert choose(found, "sub-2").name == "Two"
    assert choose(found, "Two").id == "sub-2"
    with pytest.raises(BadInputError, match="sub-2"):
        choose(found, "sub-3")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<a",
        b"<Other/>",
        b"<PublishData/>",
        v1("", "QUJD"),
        v1('<Subscription Id="&lt;x&gt;"/>'),
        v1(certificate=""),
        v1(certificate="***"),
        v1(ONE * 101),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + v1()[38:],
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + v1()[38:],
        b" " * (MAX_FILE + 1),
    ],
)
def test_what_is_wrong_is_said_and_nothing_else_is_parsed(data):
    with pytest.raises(NotPublishSettingsError):
        load_publish_settings(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(NotPublishSettingsError):
        load_publish_settings(data)


def test_xml_is_told_from_pkcs12():
    assert is_publish_settings(b"\xef\xbb\xbf  <PublishData/>")
    assert not is_publish_settings(b"0\x82\x01\x02<")
