"""docs/azure-role.json allows what the adapter asks of Azure Resource Manager, and no more."""

import fnmatch
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.cloud.providers.azure.names import BLOB_CONTRIBUTOR
from entrepot.cloud.providers.azure.provider import AzureProvider
from entrepot.objects.memory import MemoryStore
from entrepot.trust.authority import create_authority
from entrepot.trust.certificates import new_management

from .arm_double import SUBSCRIPTION, ArmDouble
from .test_azure_provider import POINT, access, make_spec

ROLE = Path(__file__).parents[2] / "docs" / "azure-role.json"
UNSEEN = {
    "Microsoft.App/managedEnvironments/join/action",  # asked for by Azure itself, when an app joins its environment
    "Microsoft.App/locations/*/read",  # where Azure's own answers send the SDK to ask about operations
    "Microsoft.Storage/locations/*/read",
    "Microsoft.Authorization/roleAssignments/read",  # asked for by Azure when an assignment is made again
}
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def action(method: str, path: str) -> str:
    """The action that Azure asks a role for, by its rules for names."""
    rest = path[len(f"/subscriptions/{SUBSCRIPTION}") :]
    if match := re.fullmatch(r"/providers/([\w.]+)/register", rest):
        return f"{match[1]}/register/action"
    if re.fullmatch(r"/providers/[\w.]+", rest):
        return "Microsoft.Resources/subscriptions/providers/read"
    if rest.endswith("/checkNameAvailability"):
        return "Microsoft.Storage/checkNameAvailability/read"
    if not rest or rest == "/resources":
        return f"Microsoft.Resources/subscriptions{rest}/read"
    if match := re.fullmatch(r"/resource[gG]roups(/[^/]+)?(/resources)?", rest):
        return f"Microsoft.Resources/subscriptions/resourceGroups{match[2] or ''}/{_VERBS[method]}"
    provider, _, parts = rest.rpartition("/providers/")[2].partition("/")
    words = parts.split("/")
    if method == "POST":
        return f"{provider}/{words[0]}/{words[-1]}/action"
    types = "/".join(words[::2])
    return f"{provider}/{types}/{_VERBS[method]}"


def test_the_condition_of_the_guide_allows_exactly_the_role_that_is_assigned() -> None:
    guide = (ROLE.parent / "azure.md").read_text()
    condition = guide[guide.index("--condition-version") :].partition("```")[0]
    assert re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", condition) == [BLOB_CONTRIBUTOR]
    assert "{'ServicePrincipal'}" in condition
    assert condition.count("(") == condition.count(")")
    assert "!" not in condition or "set +H\n" in guide[: guide.index("az role assignment")].rpartition("```")[2]


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmDouble]:
    authority = create_authority("Contoso", now=time.time())
    pair = new_management("Contoso management", 30, "rsa", now=time.time())
    double = ArmDouble(tmp_path, authority, pair.certificate)
    double.authority, double.pair = authority, pair  # type: ignore[attr-defined]  # for this test
    double.dns_proven = True
    double.registered = set()
    yield double
    double.close()
    assert double.problems == []


async def test_the_role_allows_every_request_and_nothing_that_is_never_asked(arm: Any) -> None:
    async with AzureProvider(access(arm, arm.pair), open_store=lambda *_: MemoryStore()) as azure:
        await azure.check()
        await azure.plan("cloud1", POINT, 2)
        await azure.create("cloud1", make_spec(arm.authority))
        await azure.create("cloud1", make_spec(arm.authority, days=60))
        await azure.scale("cloud1", 3)
        await azure.stop("cloud1")
        await azure.start("cloud1")
        await azure.services()
        await azure.metrics("cloud1", 1_700_000_000, 1_700_086_400)
        await azure.holder("cloud1").put_document("note", b"x")
        await azure.delete("cloud1")
    asked = {
        action(method, path) for method, path in arm.log if path.lower().startswith(f"/subscriptions/{SUBSCRIPTION}")
    }
    allowed = json.loads(ROLE.read_text())["Actions"]
    missing = {one for one in asked if not any(fnmatch.fnmatchcase(one.lower(), rule.lower()) for rule in allowed)}
    assert missing == set()
    idle = {rule for rule in allowed if not any(fnmatch.fnmatchcase(one.lower(), rule.lower()) for one in asked)}
    assert idle == UNSEEN
