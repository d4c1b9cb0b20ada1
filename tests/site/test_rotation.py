"""Rotation of the content secret, and versions that are sealed anew after a compromise."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from entrepot.content.objectset import ObjectSet
from entrepot.content.reading import open_root, parts
from entrepot.content.sealing import open_sealed
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import IntegrityError
from entrepot.core.ids import ObjectId
from entrepot.core.times import DAY
from entrepot.database import contents, hierarchy
from entrepot.database.contents import Version
from entrepot.database.hierarchy import sealed_secrets
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.contentapi import ContentInfo, ContentType, CurrentRequest
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions, DeploymentRequest
from entrepot.protocol.keysapi import KeysInfo, RotationInfo, RotationRequest
from entrepot.protocol.libraryapi import LibraryInfo
from entrepot.protocol.location import LocationReply
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.protocol.trust import Role
from entrepot.site.keys import rotation
from entrepot.site.keys.loading import load_keys, refresh
from entrepot.site.keys.sitekeys import root_name
from entrepot.site.publishing import delta_bases_anew
from entrepot.site.staging import LIBRARY_KEPT_FREE


def version_of(site: Any, content: str, number: int = 1) -> Version:
    with site.database.reading() as connection:
        return contents.get_version(connection, content, number)


def objects_of(site: Any, version: Version) -> set[bytes]:
    return set(ObjectSet(site.server.shelf.read_whole(ObjectId(version.set_id))))


def restore(site: Any, ref: SealedRef) -> dict[str, bytes]:
    """All files of a version, from the library, as whoever has the root reference would read them."""
    shelf = site.server.shelf

    def read(wanted: SealedRef) -> bytes:
        return shelf.read_whole(ObjectId(wanted.object_id))

    def believed(document: bytes) -> bytes:
        now = site.clock()
        return site.keys.ring.verify(document, typ=SignedType.MANIFEST, role=Role.MANIFEST, now=now).payload

    files: dict[str, bytes] = {}
    for part in parts(open_root(read(ref), ref, believed), read):
        for entry in part.entries:
            for extent in entry.extents:
                plain = open_sealed(read(part.chunks[extent.chunk]), part.chunks[extent.chunk])
                piece = plain[extent.offset : extent.offset + extent.length]
                files[entry.path] = files.get(entry.path, b"") + piece
    return files


def root_of(site: Any, version: Version) -> SealedRef:
    return site.keys.open_ref(root_name(version.content, version.number), version.root)


def on_disk(source: Path) -> dict[str, bytes]:
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}


async def rotate(site: Any, **how: bool) -> RotationInfo:
    return await site.call("POST", "/keys/rotate", RotationInfo, RotationRequest(**how))


async def test_a_routine_rotation_wraps_everything_anew_and_reuses_every_object(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    with site.database.reading() as connection:
        before = sealed_secrets(connection, "PS1")
    info = await rotate(site)
    with site.database.reading() as connection:
        after = sealed_secrets(connection, "PS1")
    assert (info.generation, info.wrapping, info.to_reseal) == (1, 2, 0)
    assert set(before) - set(after) == {"wrapping/1"}
    assert set(after) - set(before) == {"wrapping/2"}
    assert all(before[name] != after[name] for name in ("content/1", "dedupe", "nonce"))
    again = await site.next_version(content.id)
    assert again.versions[-1].set_id != again.versions[0].set_id  # another root
    assert again.versions[-1].new_objects <= 2  # the root, and the set: nothing of the content
    assert restore(site, root_of(site, version_of(site, content.id, 2))) == on_disk(source)


async def test_the_old_wrapping_key_opens_nothing_any_more(site: Any) -> None:
    with site.database.reading() as connection:
        old = sealed_secrets(connection, "PS1")
    await rotate(site)
    with site.database.transaction() as connection:
        hierarchy.replace_secret(connection, site="PS1", name="content/1", sealed=old["content/1"], now=0)
    with site.database.reading() as connection, pytest.raises(IntegrityError, match="wrapping key"):
        load_keys(connection, site="PS1", vault=site.keys.vault, now=site.clock())


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    with site.database.reading() as connection:
        before = sealed_secrets(connection, "PS1")
    info = await rotate(site, compromised=True, dry_run=True)
    assert [(each.content, each.number) for each in info.versions] == [(content.id, 1)]
    assert (info.generation, info.to_reseal, info.tasks) == (2, 1, 0)
    with site.database.reading() as connection:
        assert sealed_secrets(connection, "PS1") == before


async def test_after_a_compromise_every_version_is_sealed_anew_and_reads_the_same(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    (source / "new").write_bytes(b"new" * 1000)
    await site.next_version(content.id)
    old = [version_of(site, content.id, number) for number in (1, 2)]
    expected = [restore(site, root_of(site, each)) for each in old]
    info = await rotate(site, compromised=True)
    assert (info.generation, info.to_reseal, info.tasks) == (2, 2, 2)
    assert info.versions[0].number == 2  # what clients get comes first
    await site.run_tasks()
    new = [version_of(site, content.id, number) for number in (1, 2)]
    assert [(each.generation, each.sealing) for each in new] == [(2, 2), (2, 2)]
    assert [restore(site, root_of(site, each)) for each in new] == expected
    for before, after in zip(old, new, strict=True):
        assert not objects_of(site, before) & objects_of(site, after)  # not one object is shared
        assert (after.files, after.plain_size, after.stored_size) == (
            before.files,
            before.plain_size,
            before.stored_size,
        )
    assert objects_of(site, new[0]) & objects_of(site, new[1])  # but the two share theirs, as before
    keys = await site.call("GET", "/keys", KeysInfo)
    assert keys.to_reseal == keys.resealing == 0
    assert [(each.number, each.versions) for each in keys.generations] == [(1, 0), (2, 2)]
    figures = (await site.call("GET", "/library", LibraryInfo)).figures
    assert figures.unmeasured == 0, "what compression saves is still known"


async def test_a_reseal_that_begins_before_the_rotation_has_taken_effect_in_memory_is_done(
    site: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (await site.publish("App", source)).id
    monkeypatch.setattr(rotation, "refresh", lambda *_, **__: False)  # as long as the task runs
    await rotate(site, compromised=True)
    await site.run_tasks()
    assert version_of(site, content).generation == 2
    assert restore(site, root_of(site, version_of(site, content))) == on_disk(source)


async def test_after_a_compromise_nothing_older_is_reused(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    before = objects_of(site, version_of(site, content.id))
    await rotate(site, compromised=True)
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=reseal")
    await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    other = await site.publish("Copy", source)
    assert not before & objects_of(site, version_of(site, other.id))
    # what was published under the new generation is reused when the old version is sealed anew
    await site.call("POST", "/keys/reseal", RotationInfo)
    stored = site.server.shelf.page(limit=100_000)
    await site.run_tasks()
    added = len(site.server.shelf.page(limit=100_000)) - len(stored)
    assert version_of(site, content.id).generation == 2
    assert added <= 3  # part, root and set name another content


async def test_a_cancelled_reseal_leaves_the_version_as_it_was_and_can_be_asked_for_again(
    site: Any, source: Path
) -> None:
    content = await site.publish("App", source)
    before = version_of(site, content.id)
    await rotate(site, compromised=True)
    [task] = [each for each in await site.call("GET", "/tasks", list[TaskInfo]) if each.subject == f"{content.id}/1"]
    stopped = await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    assert stopped.state is TaskState.CANCELLED
    await site.run_tasks()
    assert version_of(site, content.id) == before
    again = await site.call("POST", "/keys/reseal", RotationInfo)
    assert (again.to_reseal, again.tasks) == (1, 1)
    assert (await site.call("POST", "/keys/reseal", RotationInfo)).tasks == 0  # it is asked for already
    await site.run_tasks()
    assert version_of(site, content.id).sealing == 2


async def test_a_damaged_object_fails_the_reseal_and_changes_nothing(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    before = version_of(site, content.id)
    victim = max(objects_of(site, before), key=lambda each: site.server.shelf.size(ObjectId(each)))
    path = next(site.home.library.rglob(victim.hex()))
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    await rotate(site, compromised=True)
    await site.run_tasks()
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=reseal")
    assert task.state is TaskState.FAILED
    assert "damaged" in task.error
    assert version_of(site, content.id) == before


async def test_sealing_anew_leaves_room_to_the_database_and_goes_on_when_there_is_more(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    before = version_of(site, content.id)
    await rotate(site, compromised=True)
    site.free = LIBRARY_KEPT_FREE - 1000
    await site.run_tasks()
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=reseal")
    assert (task.state, task.error_code) == (TaskState.FAILED, "storage")
    assert "134.2 MB are kept for the database" in task.error
    assert "then: entrepot key reseal" in task.error
    assert version_of(site, content.id) == before
    site.free = None
    assert (await site.call("POST", "/keys/reseal", RotationInfo)).tasks == 1
    await site.run_tasks()
    assert version_of(site, content.id).sealing == 2


async def test_a_version_that_is_deleted_meanwhile_needs_no_new_sealing(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    await rotate(site, compromised=True)
    with site.database.transaction() as connection:
        contents.remove_content(connection, content.id)
    await site.run_tasks()
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=reseal")
    assert task.state is TaskState.COMPLETED


async def test_a_publish_that_began_before_a_compromise_is_sealed_anew_after_it(
    site: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = site.server.publishing._handlers["publish"][0]
    open_session = handler._library.open_session
    rotated = []

    def opened(subject: str, *, owner: str) -> Any:
        if not rotated:
            rotated.append(subject)
            with site.database.transaction() as connection:
                site.server.rotation._rotate(connection, True)  # another process of the site does it
        return open_session(subject, owner=owner)

    monkeypatch.setattr(handler._library, "open_session", opened)
    content = await site.publish("App", source)
    with site.database.reading() as connection:
        refresh(connection, site.keys, now=site.clock())
    await site.call("POST", "/keys/reseal", RotationInfo)
    await site.run_tasks()
    assert version_of(site, content.id).generation == 2


async def test_clients_are_given_the_former_sealing_until_a_point_has_the_new_one(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    await site.enrolled_point("dp", fallback=True)
    await site.distributed(content.id, "dp")
    device = await site.enrolled_device("pc")
    await site.call(
        "POST",
        "/deployments",
        DeploymentInfo,
        DeploymentRequest(
            content="App", collection="All devices", options=DeploymentOptions(allow_remote=True, allow_fallback=True)
        ),
    )

    async def located() -> LocationReply:
        request = {"nonce": "n", "content": "App", "addresses": ["10.0.0.1"]}
        answer = await device.ask("POST", "/mp/locations", to_json(request))
        assert answer.status == 200, answer.body
        payload = site.keys.ring.verify(
            answer.body, typ=SignedType.LOCATION, role=Role.POLICY, now=site.clock()
        ).payload
        return from_json(payload, LocationReply, "reply")

    before = await located()
    assert [tier.sources[0].name for tier in before.tiers] == ["dp"]
    await rotate(site, compromised=True)
    await site.run_tasks()
    between = await located()
    assert (between.root, between.set_id) == (before.root, before.set_id)
    assert [tier.sources[0].name for tier in between.tiers] == ["dp"]
    await site.distribute_due()
    after = await located()
    assert after.set_id != before.set_id
    assert [tier.sources[0].name for tier in after.tiers] == ["dp"]
    assert restore(site, after.root) == on_disk(source)

    # eight hours later nobody has a token for the former sealing: it leaves the point, then the library
    site.clock.advance(9 * 3600)
    await site.server.upkeep.run_once()
    await site.distribute_due()
    point = next(iter(site.points.values()))
    assert point.held() == objects_of(site, version_of(site, content.id)) | {ObjectId(after.set_id)}
    await site.server.upkeep.run_once()
    assert version_of(site, content.id).former_set_id is None
    for _ in range(3):
        site.clock.advance(3 * DAY)
        await site.server.upkeep.run_once()
    left = {object_id for object_id, _ in site.server.shelf.page(limit=100_000)}
    assert left == objects_of(site, version_of(site, content.id)) | {ObjectId(after.set_id)}


async def test_deltas_are_made_anew_when_both_versions_are_sealed_anew(site: Any, source: Path) -> None:
    content = await site.publish("App", source)
    big = source / "big.bin"
    data = bytearray(big.read_bytes())
    data[1000:1004] = b"abcd"
    big.write_bytes(data)
    info = await site.next_version(content.id)
    [before] = info.versions[-1].deltas
    await rotate(site, compromised=True)
    await site.run_tasks()
    [after] = (await site.call("GET", f"/contents/{content.id}", ContentInfo)).versions[-1].deltas
    assert after.set_id != before.set_id
    with site.database.reading() as connection:
        [delta] = contents.list_deltas(connection, content.id)
    assert site.keys.open_ref(root_name(content.id, 2, 1), delta.root).object_id


async def test_after_a_rollback_deltas_are_made_anew_from_what_clients_have(site: Any, source: Path) -> None:
    """They have the version that was current before, though its number is higher, not one that is long outdated."""
    content = await site.publish("App", source, delta_versions=1)
    big = source / "big.bin"
    for number in (2, 3, 4):
        data = bytearray(big.read_bytes())
        data[1000:1001] = bytes([number])
        big.write_bytes(data)
        await site.next_version(content.id)
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=4))
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=2))
    await site.run_tasks()
    await rotate(site, compromised=True)
    await site.run_tasks()
    with site.database.reading() as connection:
        made = contents.list_deltas(connection, content.id)
    assert [(each.from_version, each.to_version) for each in made] == [(4, 2)]


@pytest.mark.parametrize(
    ("current", "before", "held", "bases"),
    [
        (5, 0, {}, [4, 3, 2]),  # nothing is known: the last before it
        (2, 5, {}, [5, 1, 4]),  # after a rollback: those that have yet to follow it
        (2, 5, {1: 40, 2: 900, 5: 7}, [1, 5, 4]),  # what most devices have
        (5, 0, {3: 1}, [3, 4, 2]),
    ],
)
def test_deltas_lead_from_what_most_devices_have(
    current: int, before: int, held: dict[int, int], bases: list[int]
) -> None:
    assert delta_bases_anew([1, 2, 3, 4, 5], current, before, held, 3) == bases


async def test_isolated_content_shares_no_object_with_any_other_before_and_after_a_compromise(
    site: Any, source: Path
) -> None:
    twin = source.parent / "twin"
    shutil.copytree(source, twin)
    names = [("Open", {}), ("Closed", {"isolated": True}), ("Vault", {"isolated": True})]
    made = [await site.publish(name, twin, type=ContentType.PACKAGE, **how) for name, how in names]

    def all_apart() -> None:
        sets = [objects_of(site, version_of(site, each.id)) for each in made]
        assert not (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])
        for each in made:
            assert restore(site, root_of(site, version_of(site, each.id))) == on_disk(twin)

    all_apart()
    await rotate(site, compromised=True)
    await site.run_tasks()
    assert {version_of(site, each.id).generation for each in made} == {2}
    all_apart()
