"""What an order would destroy is asked of the site with ``--dry-run``, shown, and not done."""

import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.client.cache import Cache
from entrepot.client.home import Home
from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.settings import Folders
from entrepot.cloud.host.subscriptions import Subscriptions
from entrepot.core.encoding import to_json
from entrepot.core.secret import Secret
from entrepot.durable.locks import HomeLock
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.keysapi import RollRequest, TrustDraft
from entrepot.protocol.removalapi import Removal, counted, named
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.certificates import new_management
from entrepot.trust.root import RootKey
from entrepot.trust.signing import kid_of

FORESEEN = Removal(
    what="thing",
    id="thing-1",
    name="Thing",
    effects=(
        counted("objects that go", 1234, 5_000_000),
        named("things that stay", [f"thing {number}" for number in range(25)]),
        named("things that there are not", []),
        counted("bound that is lifted", 1, 2_000_000_000),
    ),
    refusal="The thing is used.",
    next_step="Remove its uses first.",
)
ASKED = {
    ("content", "remove", "7-Zip", "--from", "dp"): "GET /api/v1/contents/7-Zip/distribution/dp/removal",
    ("point", "remove", "dp"): "GET /api/v1/points/dp/removal",
    ("boundary", "remove", "Berlin"): "GET /api/v1/boundary-groups/Berlin/removal",
    ("device", "remove", "pc"): "GET /api/v1/devices/pc/removal",
    ("device", "block", "pc"): "GET /api/v1/devices/pc/block",
    ("device", "withdraw", "code-1"): "GET /api/v1/enrolment-codes/code-1/removal",
    ("collection", "remove", "Laptops"): "GET /api/v1/collections/Laptops/removal",
    ("deploy", "remove", "dep-1"): "GET /api/v1/deployments/dep-1/removal",
    ("settings", "remove", "kiosks"): "GET /api/v1/client-settings/kiosks/removal",
    ("certificate", "remove", "mgmt"): "GET /api/v1/management-certificates/mgmt/removal",
    ("alert", "subscription", "delete", "ops"): "GET /api/v1/alert-subscriptions/ops/removal",
    ("alert", "window", "delete", "patching"): "GET /api/v1/maintenance-windows/patching/removal",
    ("budget", "delete", "App", "--of", "content"): "GET /api/v1/budgets/App/removal?of=content",
    ("cloud", "stop", "cloud-eu"): "GET /api/v1/cloud-points/cloud-eu/stop",
    ("task", "cancel", "task-1"): "GET /api/v1/tasks/task-1/cancel",
    ("key", "roll", "token", "--root-key", "root.key"): "POST /api/v1/keys/roll/removal",
}


def test_a_dry_run_asks_the_site_and_gives_no_order(logged_in, entrepot) -> None:
    for order, request in ASKED.items():
        logged_in.replies = {request: FORESEEN}
        logged_in.asked.clear()
        ran = entrepot(*order, "--dry-run", "--json")
        assert ran.code == 0, ran.err
        assert ran.value["effects"][0] == {"what": "objects that go", "count": 1234, "bytes": 5_000_000, "names": []}
        assert ran.value["refusal"] == "The thing is used."
        assert [asked for asked, _, _ in logged_in.asked] == [request]


def test_a_dry_run_tells_counts_sizes_names_and_refusals(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/points/dp/removal"] = FORESEEN
    ran = entrepot("point", "remove", "dp", "--dry-run")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[:2] == ["Thing (thing)", "objects that go 1,234, 5.0 MB"]
    assert lines[2:4] == ["things that stay thing 0", "thing 1"]
    assert lines[-4:-2] == ["and 5 more", "bound that is lifted 2.0 GB"]
    assert lines[-2:] == ["refused The thing is used.", "then Remove its uses first."]
    assert ran.err.strip() == "Nothing was changed."


def test_a_rollover_that_is_only_foreseen_sends_what_would_be_done(logged_in, entrepot) -> None:
    request = "POST /api/v1/keys/roll/removal"
    logged_in.replies[request] = FORESEEN
    order = ("key", "roll", "control", "--withdraw", "kid-1", "--raise-epoch", "--root-key", "none", "--dry-run")
    assert entrepot(*order).code == 0
    (sent,) = logged_in.bodies(request)
    assert sent == {"roles": [Role.CONTROL.value], "withdraw": ["kid-1"], "raise_epoch": True, "force": False}
    assert set(sent) == set(RollRequest.__struct_fields__)


def test_a_draft_is_told_with_its_number_and_epoch_before_it_is_signed(entrepot, tmp_path: Path) -> None:
    pem = RootKey.create(Secret("a long passphrase"))
    root = RootKey.load(pem, Secret("a long passphrase"))
    public = b"k" * 32
    kid = kid_of(public)
    key = KeyEntry(kid=kid, role=Role.TOKEN, site="PS1", public=public, not_before=0, not_after=4_000_000_000)
    present = TrustDocument(hierarchy="Contoso", number=6, epoch=2, issued=1_774_000_000, keys=(key,))
    (tmp_path / "root.key").write_bytes(pem)

    def told(*more: str, epoch: int) -> Any:
        draft = msgspec.structs.replace(present, number=7, epoch=epoch, keys=())
        made = TrustDraft(document=to_json(draft), present=root.sign_trust(present))
        (tmp_path / "trust.draft").write_bytes(to_json(made))
        files = (str(tmp_path / name) for name in ("trust.draft", "trust.jws"))
        return entrepot("key", "trust", "sign", *files, "--root-key", str(tmp_path / "root.key"), "--dry-run", *more)

    said = told(epoch=3)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0] == "Trust document 7, epoch 3 (was 2), of Contoso"
    assert kid in said.out
    assert said.err.strip() == "Nothing was signed."
    assert told(epoch=2).out.startswith("Trust document 7, epoch 2, of Contoso")
    assert told("--json", epoch=3).value == {
        "number": 7,
        "epoch": 3,
        "present_epoch": 2,
        "keys": [{"change": "goes", "role": "token", "id": kid, "until": "now"}],
    }
    assert not (tmp_path / "trust.jws").exists()


def test_a_cache_that_would_be_emptied_is_counted_and_kept(entrepot, tmp_path: Path) -> None:
    cache = Cache(Home(tmp_path).cache, 1000)
    for data in (b"one", b"three"):
        cache.keep(object_id_of(data), data)
    cache.flush()
    order = ("client", "clear-cache", "--home", str(tmp_path))
    (effect,) = entrepot(*order, "--dry-run", "--json").value["effects"]
    assert (effect["count"], effect["bytes"]) == (2, 8)
    with HomeLock(tmp_path, "a client's home"):
        at_work = entrepot(*order, "--dry-run", "--json").value
        assert "Another process is using" in at_work["refusal"]
        assert at_work["refusal"] in entrepot(*order, "--yes").err, "what the order itself says"
    assert entrepot(*order, "--dry-run", "--json").value["refusal"] == ""
    assert entrepot(*order, "--yes", "--json").value == {"freed": 8}


def test_a_cache_of_no_client_is_not_told_to_be_empty(entrepot, tmp_path: Path) -> None:
    for how in ("--dry-run", "--yes"):
        ran = entrepot("client", "clear-cache", "--home", str(tmp_path / "none"), how)
        assert (ran.code, ran.out) == (3, "")
        assert "There is no folder" in ran.err
    assert not (tmp_path / "none").exists()


def test_a_cloud_host_tells_what_its_orders_would_do(entrepot, tmp_path: Path) -> None:
    def order(*words: str) -> Any:
        ran = entrepot("host", *words, "--home", str(tmp_path / "host"), "--json")
        assert ran.code == 0, ran.err
        return ran.value

    pair = new_management("contoso-cloud", 5, "ec", now=time.time())
    (tmp_path / "m.cer").write_bytes(pair.cer)
    order("init")
    made = order("subscription", "add", "contoso", "--certificate", str(tmp_path / "m.cer"))
    with contextlib.closing(HostDatabase(Folders(tmp_path / "host").database)) as database:
        token = Subscriptions(database).give_token(
            made["id"], pair.certificate.public_bytes(Encoding.DER), expires=int(time.time()) + 600, now=time.time()
        )
        (certificate,) = Subscriptions(database).certificates(made["id"])
        foreseen = [
            order("subscription", "remove", "contoso", "--dry-run"),
            order("subscription", "disable", "contoso", "--dry-run"),
            order("certificate", "revoke", "contoso", certificate.thumbprint[:8], "--dry-run"),
        ]
        assert Subscriptions(database).caller(token, now=time.time()).subscription.state == "active"
    assert [each["refusal"] for each in foreseen] == ["", "", ""]
    assert foreseen[0]["effects"][-1]["names"] == [f"contoso-cloud ({certificate.thumbprint})"]
    assert foreseen[2]["effects"][0]["count"] == 1, "the access token"
    assert order("subscription", "list")[0]["state"] == "active"
    assert order("certificate", "list", "contoso")[0]["revoked"] is None
    assert [line["action"] for line in order("audit")] == ["subscription.add", "certificate.upload"]
