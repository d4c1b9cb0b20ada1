"""Messages that hold a credential do not show it: a line of a log or a traceback may print them."""

from entrepot.protocol import Freshness, SealedRef
from entrepot.protocol.cloudapi import UpdateRequest
from entrepot.protocol.cloudhost import AccessToken, ServiceSpec
from entrepot.protocol.location import LocationReply, Network

ROOT = SealedRef(bytes(32), 100, 90, b"k" * 32, bytes(32))


def test_messages_that_hold_a_credential_do_not_show_it() -> None:
    reply = LocationReply(
        nonce="n",
        fresh=Freshness(epoch=1, counter=1, issued=0, expires=1),
        site="PS1",
        device="dev-1",
        network=Network.INTRANET,
        content="pkg-1",
        name="7-Zip",
        version=1,
        root=ROOT,
        set_id=bytes(32),
        tiers=(),
        withheld=(),
        tokens={"points:PS1": "very-secret"},
    )
    spec = ServiceSpec(
        point="pt-1", fqdn="a.b", root=bytes(32), certificate="c", private_key="very-secret", instances=1
    )
    token = AccessToken(access_token="very-secret", expires_in=60)
    update = UpdateRequest(registry_password="very-secret")  # of a test
    for shown in map(repr, (reply, spec, token, update, ROOT)):
        assert "very-secret" not in shown
        assert "kkk" not in shown
        assert "***" in shown
