"""The admin API over the real application: sessions, errors, documentation, and that bad input is never our failure."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.core.encoding import to_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    LimitedError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
)
from entrepot.database import controldocuments, points
from entrepot.database.points import Point
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    ContentType,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
)
from entrepot.protocol.costapi import BudgetInfo, BudgetPatch, BudgetRequest
from entrepot.protocol.deviceapi import (
    CollectionInfo,
    CollectionRequest,
    DeploymentInfo,
    DeploymentOptions,
    DeploymentRequest,
    RunMode,
)
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, PointCode, PointInfo, PointRequest
from entrepot.protocol.siteapi import PREFIX, LoginRequest, Session, SiteInfo, TaskInfo, TaskState
from entrepot.rules.alerts import SYSTEM


async def test_a_session_opens_the_api_until_logout(site) -> None:
    info = await site.call("GET", "/site", SiteInfo)
    assert (info.code, info.name, info.trust_number) == ("PS1", "Contoso", 1)
    await site.call("POST", "/logout", type(None))
    with pytest.raises(UnauthenticatedError, match="ended"):
        await site.call("GET", "/site", SiteInfo)


async def test_a_task_says_who_ordered_it(site, tmp_path) -> None:
    """A request runs apart from what else goes on, as in the server: what the site orders itself is nobody else's."""

    async def ask(method: str, path: str, body: object = None) -> TaskInfo:
        return await asyncio.create_task(site.call(method, path, TaskInfo, body))

    (tmp_path / "app").mkdir()
    for number, path in enumerate(("/contents", "/contents/App/versions")):
        (tmp_path / "app" / "file").write_bytes(bytes([number]) * 100_000)
        first = ContentRequest(name="App", source=str(tmp_path / "app"))
        task = await ask("POST", path, {} if number else first)
        await site.run_tasks()
        assert (await ask("GET", f"/tasks/{task.id}")).by == task.by == "admin"
    (delta,) = await asyncio.create_task(site.call("GET", "/tasks", list[TaskInfo], query="kind=delta"))
    assert delta.by == SYSTEM


async def test_a_session_ends_by_itself(site, clock) -> None:
    await site.call("GET", "/site", SiteInfo)
    clock.advance(12 * 3600)
    with pytest.raises(UnauthenticatedError, match="ended"):
        await site.call("GET", "/site", SiteInfo)


@pytest.mark.parametrize(("name", "password"), [("admin", "wrong password"), ("nobody", "correct horse battery")])
async def test_a_failed_login_does_not_say_what_was_wrong(site, name, password) -> None:
    answer = await site.ask("POST", PREFIX + "/login", to_json(LoginRequest(name=name, password=password)))
    assert answer.status == 401
    assert answer.json()["detail"] == "Name or password is wrong."


async def test_guessing_is_slowed_for_the_guesser_only(site, clock) -> None:
    guess = to_json(LoginRequest(name="Admin", password="guess"))
    right = to_json(LoginRequest(name="admin", password="correct horse battery"))
    for _ in range(5):
        assert (await site.ask("POST", PREFIX + "/login", guess, peer="10.0.0.66")).status == 401
    with pytest.raises(LimitedError):
        site.decoded(await site.ask("POST", PREFIX + "/login", right, peer="10.0.0.66"), Session)
    assert (await site.ask("POST", PREFIX + "/login", right, peer="10.0.0.1")).status == 200
    clock.advance(15 * 60 + 1)
    assert (await site.ask("POST", PREFIX + "/login", right, peer="10.0.0.66")).status == 200


async def test_a_burst_of_guesses_is_no_way_round_the_limit(site) -> None:
    guess = to_json(LoginRequest(name="admin", password="guess"))
    answers = await asyncio.gather(*(site.ask("POST", PREFIX + "/login", guess, peer="10.0.0.66") for _ in range(20)))
    tried = [answer.status for answer in answers].count(401)
    assert tried <= 6  # two are verified at a time, so one may be under way when the limit is reached
    assert [answer.status for answer in answers].count(429) == 20 - tried


async def test_every_route_but_the_login_wants_a_session(site) -> None:
    schema = json.loads((await site.ask("GET", "/api/docs/openapi.json")).body)
    for path, methods in schema["paths"].items():
        for method in methods:
            answer = await site.ask(method.upper(), re.sub(r"\{\w+\}", "x", path.replace("{number}", "1")), b"{}")
            expected = 400 if path.endswith("/login") else 401
            assert answer.status == expected, (method, path, answer.body)


async def test_the_documentation_page_loads_nothing_from_elsewhere(site) -> None:
    page = (await site.ask("GET", "/api/docs")).body.decode()
    around = page[: page.index("spec: ")] + page[page.rindex("dom_id") :]  # the description itself may name addresses
    assert not re.search("https?:|url[(]|@import", around)
    assets = re.findall(r'(?:src|href)="([^"]+)"', around)
    assert len(assets) >= 3
    for asset in assets:
        answer = await site.ask("GET", asset)
        assert answer.status == 200, asset
        assert answer.body


async def test_the_documentation_page_is_in_the_dialect_that_its_viewer_reads(site) -> None:
    page = (await site.ask("GET", "/api/docs")).body.decode()
    shown, _ = json.JSONDecoder().raw_decode(page[page.index("spec: ") + len("spec: ") :])
    assert shown["openapi"].startswith("3.0.")
    kinds = [entry.get("type") for entry in _objects(shown)]
    assert "string" in kinds
    assert all(
        kind is None or (isinstance(kind, str) and kind != "null") for kind in kinds if not isinstance(kind, dict)
    )
    patched = shown["components"]["schemas"]["CloudPointPatch"]["properties"]["description"]
    assert patched["nullable"] is True


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(each)


async def test_the_documentation_says_how_every_route_refuses(site) -> None:
    schema = json.loads((await site.ask("GET", "/api/docs/openapi.json")).body)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            for status in ("400", "401", "404", "409", "422"):
                (kind,) = operation["responses"][status]["content"]
                assert kind == "application/problem+json", (method, path, status)


async def test_the_documentation_describes_the_models(site) -> None:
    schema = json.loads((await site.ask("GET", "/api/docs/openapi.json")).body)
    assert "ContentRequest" in json.dumps(schema["components"])
    assert schema["paths"]["/api/v1/contents"]["post"]["summary"] == "Create content"
    assert schema["paths"]["/api/v1/cloud-points"]["get"]["summary"] == "List cloud points"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("PUT", "/contents", 405), ("POST", "/contents", 400), ("GET", "/contents/none", 404)],
)
async def test_refusals_are_problem_documents(site, method, path, status) -> None:
    answer = await site.raw(method, path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]


async def test_a_body_that_is_too_large_is_refused(site) -> None:
    answer = await site.raw("POST", "/contents", b'{"name": "' + b"x" * 2**20 + b'"}')
    assert answer.status == 413


async def test_the_error_names_the_field(site) -> None:
    answer = await site.raw("POST", "/contents", {"name": "App", "source": 5})
    assert "source" in answer.json()["detail"]
    answer = await site.raw("POST", "/contents", {"name": "App", "source": "/x", "exclude": []})
    assert "exclude" in answer.json()["detail"]


def _wrong(node: dict[str, Any], schemas: dict[str, Any]) -> Iterator[Any]:
    """Values of other types than a schema says, one wrong place each, most of which a lenient reader would take.
    Decimal numbers are strings here, and may be numbers."""
    if "$ref" in node:
        yield from _wrong(schemas[node["$ref"].rpartition("/")[2]], schemas)
    for choice in ("oneOf", "anyOf"):
        others = [each for each in node.get(choice, ()) if each.get("type") != "null"]
        if len(others) == 1:
            yield from _wrong(others[0], schemas)
    kinds = node.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if kinds <= {"boolean", "integer", "number", "string", "null"} and len(kinds - {"null"}) == 1:
        yield from {"boolean": (1, 0, "true"), "string": (True,)}.get((kinds - {"null"}).pop(), ("5",))
    if "items" in node:
        yield from ([wrong] for wrong in _wrong(node["items"], schemas))
    for name, field in node.get("properties", {}).items():
        for wrong in _wrong(field, schemas):
            yield {name: wrong}


async def test_no_body_of_any_route_is_taken_with_a_value_of_another_type(site) -> None:
    schema = json.loads((await site.ask("GET", "/api/docs/openapi.json")).body)
    tried = 0
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            where = re.sub(r"\{\w+\}", "x", path.replace("{number}", "1")).removeprefix(PREFIX)
            for wrong in _wrong(body, schema["components"]["schemas"]):
                answer = await site.raw(method.upper(), where, wrong)
                assert answer.status == 400, (method, path, wrong, answer.body)
                assert f"{next(iter(wrong))}" in answer.json()["detail"], (method, path, wrong)
                assert "Expected `" in answer.json()["detail"], (method, path, wrong)
                tried += 1
    assert tried > 200


# ------------------------------------------------------------------------------------------------- contents


async def test_the_error_names_the_parameter_that_is_missing(site) -> None:
    answer = await site.raw("GET", "/contents/App/comparison")
    assert answer.status == 400
    assert answer.json()["detail"].startswith("The request is not valid: missing required query parameter ")


async def test_publishing_shows_versions_and_sizes(site, source) -> None:
    info = await site.publish("App", source, excludes=("*.bin",))
    (version,) = info.versions
    assert (info.state, info.current, version.files, version.folders) == ("ready", 1, 20, 1)
    assert version.plain_size == 60_000
    assert version.new_objects > 0


async def test_a_name_is_taken_once_and_found_without_regard_to_case(site, source) -> None:
    made = await site.publish("App", source)
    with pytest.raises(ConflictError):
        await site.call("POST", "/contents", TaskInfo, ContentRequest(name="APP", source=str(source)))
    assert (await site.call("GET", "/contents/aPP", ContentInfo)).id == made.id


async def test_only_one_publish_of_a_content_runs_at_a_time(site, source) -> None:
    await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(source)))
    with pytest.raises(ConflictError, match="under way"):
        await site.call("POST", "/contents/App/versions", TaskInfo, {})


async def test_what_cannot_be_published_fails_its_task_with_the_reason(site, source) -> None:
    (source / "loop").symlink_to("/etc")
    task = await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(source)))
    await site.run_tasks()
    ended = await site.call("GET", f"/tasks/{task.id}", TaskInfo)
    assert (ended.state, ended.error_code) == (TaskState.FAILED, "refused")
    assert "loop" in ended.error
    assert (await site.call("GET", "/contents/App", ContentInfo)).state == "failed"
    (source / "loop").unlink()
    assert (await site.next_version("App")).state == "ready"


@pytest.mark.parametrize("path", ["relative", "/no/such/folder", "/tmp/../etc", "/nul\x00byte"])
async def test_a_source_is_an_absolute_path_that_exists(site, path) -> None:
    with pytest.raises(BadInputError):
        await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=path))


async def test_the_servers_own_folder_is_never_published(site, tmp_path) -> None:
    (tmp_path / "link").symlink_to(site.home.folder)
    for path in (site.home.folder, site.home.library, tmp_path, tmp_path / "link"):
        with pytest.raises(RefusedError, match="own folder"):
            await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(path)))


async def test_equal_content_is_stored_once_unless_it_is_isolated(site, source) -> None:
    first = (await site.publish("one", source)).versions[0]
    second = (await site.publish("two", source)).versions[0]
    isolated = (await site.publish("three", source, isolated=True)).versions[0]
    assert second.new_bytes < first.new_bytes / 10
    assert isolated.new_objects >= first.new_objects - 1


async def test_a_cancelled_publish_can_be_asked_for_again(site, source) -> None:
    task = await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(source)))
    stopped = await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    assert (stopped.state, stopped.cancelled_by) == (TaskState.CANCELLED, "admin")
    assert (await site.next_version("App")).current == 1


async def test_deleting_takes_the_content_from_every_point_and_frees_its_name(site, source) -> None:
    await site.publish("App", source)
    berlin = await site.enrolled_point("Berlin")
    await site.distributed("App", "Berlin")
    task = await site.call("DELETE", "/contents/App", TaskInfo)
    with pytest.raises(ConflictError, match="being deleted"):
        await site.call("POST", "/contents/App/versions", TaskInfo, {})
    await site.distribute_due()
    await site.run_tasks()
    assert (await site.call("GET", f"/tasks/{task.id}", TaskInfo)).state is TaskState.COMPLETED
    assert site.points[berlin].held() == set()
    with pytest.raises(NotFoundError):
        await site.call("GET", "/contents/App", ContentInfo)
    await site.publish("App", source)


async def test_deployed_content_is_not_deleted(site, source) -> None:
    await site.publish("App", source)
    made = await site.call("POST", "/deployments", DeploymentInfo, DeploymentRequest(content="App"))
    with pytest.raises(ConflictError, match=made.id):
        await site.call("DELETE", "/contents/App", TaskInfo)


async def test_budgets_hold_collections_and_go_with_contents(site, source) -> None:
    await site.publish("App", source)
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name="Lab"))
    for scope, name in (("content", "App"), ("collection", "Lab")):
        request = BudgetRequest(bytes=10**9, scope=scope)
        assert (await site.call("PUT", f"/budgets/{name}", BudgetInfo, request)).scope == scope
    patch = BudgetPatch(scope="collection", peers_percent=70)
    changed = await site.call("PATCH", "/budgets/Lab", BudgetInfo, patch)
    assert (changed.bytes, changed.peers_percent) == (10**9, 70)
    with pytest.raises(ConflictError, match="Budgets use"):
        await site.call("DELETE", "/collections/Lab", type(None))
    with pytest.raises(NotFoundError):
        await site.call("DELETE", "/budgets/Lab", type(None), query="of=content")
    await site.call("DELETE", "/budgets/Lab", type(None), query="of=collection")
    await site.call("DELETE", "/collections/Lab", type(None))
    await site.call("DELETE", "/contents/App", TaskInfo)
    await site.run_tasks()
    assert await site.call("GET", "/budgets", list[BudgetInfo]) == []


# ---------------------------------------------------------------------------------------------- restrictions


async def cloud_row(site) -> None:
    """A cloud point, as far as restrictions see it."""
    with site.database.transaction() as connection:
        point = Point(id="pt-c", name="cloud-eu", kind="cloud", site="PS1", state="active", url="https://x")
        points.add_point(connection, point)
        assert controldocuments.control(connection, "pt-c").counter == 0


async def test_software_updates_are_not_distributed_to_the_cloud(site, source) -> None:
    await site.publish("Updates", source, type=ContentType.SOFTWARE_UPDATE_PACKAGE)
    await cloud_row(site)
    await site.enrolled_point("Berlin")
    with pytest.raises(RefusedError, match="software update"):
        await site.call(
            "POST",
            "/contents/Updates/distribution",
            list[DistributionInfo],
            DistributionRequest(points=("Berlin", "cloud-eu")),
        )
    assert await site.call("GET", "/contents/Updates/distribution", list[DistributionInfo]) == []


@pytest.mark.parametrize("run", [RunMode.ON_DEMAND, RunMode.RUN_FROM_POINT, RunMode.STREAM])
async def test_a_deployment_that_the_cloud_cannot_serve_is_refused_or_warned_about(site, source, run) -> None:
    await site.publish("App", source)
    await cloud_row(site)
    body = DistributionRequest(points=("cloud-eu",))
    await site.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    request = DeploymentRequest(content="App", options=DeploymentOptions(run=run))
    with pytest.raises(RefusedError):
        await site.call("POST", "/deployments", DeploymentInfo, request)
    await site.enrolled_point("Berlin")
    body = DistributionRequest(points=("Berlin",))
    await site.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    assert (await site.call("POST", "/deployments", DeploymentInfo, request)).warnings


async def test_a_cloud_point_is_not_changed_or_removed_as_if_it_stood_here(site) -> None:
    await cloud_row(site)
    for change in ({"url": "https://elsewhere"}, {"internet_facing": True}):
        with pytest.raises(BadInputError):
            await site.call("PATCH", "/points/cloud-eu", PointInfo, change)
    with pytest.raises(ConflictError, match="cloud point"):
        await site.call("DELETE", "/points/cloud-eu", type(None))


# ---------------------------------------------------------------------------------- points, groups, collections


async def test_points_are_added_changed_and_removed(site) -> None:
    added = await site.call("POST", "/points", PointCode, PointRequest(name="Berlin", fallback=True))
    assert (added.point.state, added.point.fallback) == ("awaiting", True)
    changed = await site.call("PATCH", "/points/berlin", PointInfo, {"fallback": False})
    assert not changed.fallback
    await site.call("DELETE", "/points/Berlin", type(None))
    assert await site.call("GET", "/points", list[PointInfo]) == []


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.9-10.0.0.1", "nonsense", "10.0.0.0/33", "::1-10.0.0.1"])
async def test_ranges_are_checked(site, text) -> None:
    with pytest.raises(BadInputError):
        await site.call("POST", "/boundary-groups", BoundaryGroupInfo, BoundaryGroupRequest(name="x", ranges=(text,)))


async def test_a_boundary_group_is_replaced_whole(site) -> None:
    await site.call(
        "POST", "/boundary-groups", BoundaryGroupInfo, BoundaryGroupRequest(name="a", ranges=("10.0.0.0/8",))
    )
    body = BoundaryGroupRequest(name="b", ranges=("fd00::/8",))
    changed = await site.call("PUT", "/boundary-groups/A", BoundaryGroupInfo, body)
    assert (changed.name, changed.ranges) == ("b", ("fd00::/8",))
    await site.call("DELETE", "/boundary-groups/b", type(None))
    assert await site.call("GET", "/boundary-groups", list[BoundaryGroupInfo]) == []


async def test_names_with_odd_characters_survive_the_address(site) -> None:
    name = "Büro & Söhne 50% #1?"
    await site.call("POST", "/collections", CollectionInfo, CollectionRequest(name=name))
    assert (await site.call("GET", f"/collections/{name}", CollectionInfo)).name == name


async def test_a_redistribution_sends_everything_again(site, source) -> None:
    await site.publish("App", source)
    berlin = await site.enrolled_point("Berlin")
    await site.distributed("App", "Berlin")
    first = len(site.points[berlin].puts)
    body = DistributionRequest(points=("Berlin",))
    await site.call("POST", "/contents/App/redistribute", list[DistributionInfo], body)
    await site.distribute_due()
    assert len(site.points[berlin].puts) == 2 * first
    (row,) = await site.call("GET", "/contents/App/distribution", list[DistributionInfo])
    assert row.state is DistributionState.SUCCESS


# ------------------------------------------------------------------------------------------------- bad input

_NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "\ud7ff", "💥", "a" * 300, "../..", "' OR 1=1 --", "default", "All devices", "pt-x"]),
)
_JSON = st.recursive(
    _NASTY,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
_SEGMENT = st.one_of(
    st.text(alphabet=st.characters(blacklist_characters="/?#", blacklist_categories=["Cs"]), min_size=1, max_size=20),
    st.sampled_from(["\x00", "default", "All devices", "%2e%2e", "x" * 500, "9" * 30]),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
async def test_bad_input_is_never_the_servers_failure(site, data) -> None:
    if not hasattr(site, "schema"):
        site.schema = json.loads((await site.ask("GET", "/api/docs/openapi.json")).body)
    operations = [
        (method, path, operation)
        for path, methods in sorted(site.schema["paths"].items())
        for method, operation in sorted(methods.items())
        if not path.endswith(("/logout", "/login"))
    ]
    method, path, operation = data.draw(st.sampled_from(operations))
    body = b""
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        reference = next(each["$ref"] for each in content["schema"].get("oneOf", [content["schema"]]) if "$ref" in each)
        known = site.schema["components"]["schemas"][reference.rsplit("/", 1)[1]]
        fields = data.draw(st.dictionaries(st.sampled_from(sorted(known["properties"])), _JSON, max_size=6))
        whole = data.draw(st.one_of(st.just(fields), _JSON))
        body = json.dumps(whole).encode()
    filled = re.sub(r"\{\w+\}", lambda _: data.draw(_SEGMENT), path)
    query = data.draw(
        st.sampled_from(["", "limit=0", "limit=x", "active=maybe", "subject=%00", "since=99999999999999999999"])
    )
    answer = await site.raw(method.upper(), filled.removeprefix(PREFIX), body, query=query)
    assert answer.status < 500, (method, filled, body, answer.body)
