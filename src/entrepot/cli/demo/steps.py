"""Steps 1 to 5 of the demonstration: set up, publish, fetch, look into the cloud, publish the next version."""

from pathlib import Path

from entrepot.cli.demo.evidence import needles_of, search_store
from entrepot.cli.demo.topology import CLOUD, decode
from entrepot.cli.demo.world import Fetched, Located, World, offered, used
from entrepot.cli.session import fingerprint_from
from entrepot.client.home import Home
from entrepot.client.trees import Trees
from entrepot.core.sizes import format_size
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.deviceapi import (
    ClientSettingsInfo,
    ClientSettingsRequest,
    DeploymentInfo,
    DeploymentOptions,
    DeploymentRequest,
    SettingsValues,
)
from entrepot.protocol.location import TierKind
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, BoundaryPoint
from entrepot.protocol.siteapi import SiteInfo

BERLIN, MUNICH = "dp-berlin", "dp-munich"
OFFICE, BRANCH, HOME_OFFICE = "pc-berlin", "pc-munich", "laptop-abroad"
GROUPS = (("Berlin", "10.1.0.0/16", BERLIN), ("Munich", "10.3.0.0/16", MUNICH))
ADDRESSES = {OFFICE: "10.1.0.5", BRANCH: "10.3.0.5", HOME_OFFICE: "203.0.113.7"}


def start(world: World) -> None:
    """Step 1: every role as a process of its own."""
    roles, tell = world.roles, world.tell
    with tell.step("Start a cloud host, a primary site, two points, and create a cloud point"):
        tell.command("entrepot host init … ; entrepot host subscription add … ; entrepot host serve")
        tell.command("entrepot site init … ; entrepot site serve ; entrepot login …")
        tell.doing("setting up cloud host and primary site")
        roles.set_up()
        tell.doing("starting cloud host and primary site")
        roles.start_host_and_site()
        site = roles.session.get("/site", SiteInfo)
        tell.claim(
            "the site answers over TLS that the pinned hierarchy root vouches for",
            fingerprint_from(site.root_fingerprint) == fingerprint_from(roles.fingerprint),
            site.url,
        )
        tell.command("entrepot point add … ; entrepot point init … ; entrepot point serve")
        tell.doing("distribution points")
        roles.launch_points(BERLIN, MUNICH)
        roles.import_certificate()
        order = roles.order_cloud_point(instances=2, thresholds=Thresholds())  # while the points start
        roles.await_points()
        for name, addresses, point in GROUPS:
            group = BoundaryGroupRequest(name=name, ranges=(addresses,), points=(BoundaryPoint(name=point),))
            roles.session.post("/boundary-groups", group, BoundaryGroupInfo)
        tell.claim("two distribution points enrolled and serve", len(roles.points) == 2, f"{BERLIN}, {MUNICH}")
        tell.command(f"entrepot certificate import … ; entrepot cloud create {CLOUD} --instances 2 …")
        tell.doing("cloud point")
        roles.finish(order)
        cloud = world.until("both instances run", lambda: _running(world, 2))
        tell.claim(
            "the cloud point was created through the cloud host's management API, with a management certificate",
            cloud == 2,
            f"{cloud} gateway instances behind {world.cloud().url}",
        )
        tell.figures(instances=cloud, points=len(roles.points))


def _running(world: World, wanted: int) -> int | None:
    info = world.cloud()
    running = sum(1 for instance in info.instances if instance.state == "running")
    return running if running == wanted and info.state is CloudPointState.READY else None


def publish(world: World) -> None:
    """Step 2: real software goes into the library and onto the points."""
    tell, software = world.tell, world.software
    with tell.step("Publish real software and distribute it"):
        tell.note(f"Source: {software.origin}")
        tell.command(f"entrepot content publish {software.first.name} --name {software.name}")
        tell.doing(f"publishing {software.name}")
        version = world.publish(software.name, software.first)
        tell.claim(
            "the site cut, sealed and stored the content",
            version.files > 0 and version.stored_size > 0,
            f"{version.files} files, {format_size(version.plain_size)} → {version.chunks} sealed chunks, "
            f"{format_size(version.stored_size)}",
        )
        tell.command(f"entrepot content distribute {software.name} --to {BERLIN} --to {MUNICH} --to {CLOUD}")
        rows = world.distribute(software.name, BERLIN, MUNICH, CLOUD)
        for name, row in sorted(rows.items()):
            tell.claim(f"{name} has it, verified", row.held == 1, f"{format_size(row.sent_bytes)} sent")
        deployment = DeploymentRequest(content=software.name, options=DeploymentOptions(allow_remote=True))
        world.roles.session.post("/deployments", deployment, DeploymentInfo)
        tell.figures(
            files=version.files,
            plain_bytes=version.plain_size,
            stored_bytes=version.stored_size,
            sent_to_cloud=rows[CLOUD].sent_bytes,
        )


def fetch(world: World) -> None:
    """Step 3: three clients, three ways."""
    roles, tell, name = world.roles, world.tell, world.software.name
    with tell.step("Three clients fetch it, each from where it should"):
        tell.command("entrepot device code ; entrepot client enrol …")
        tell.doing("three devices enrol")
        world.clients |= roles.enrol_clients(ADDRESSES)
        _cloud_is_off_by_default(world)
        tell.command("entrepot settings set default --allow-cloud")
        allowed = ClientSettingsRequest(name="default", settings=SettingsValues(allow_cloud=True))
        roles.session.post("/client-settings", allowed, ClientSettingsInfo)
        roles.stop_point(MUNICH)
        tell.note(f"{MUNICH} is switched off now, so that nothing on premises can serve {BRANCH}.")
        tell.command(f"entrepot client fetch {name}")
        got = world.fetch_together(name, *ADDRESSES)
        rows = [(client, found.network, offered(found), used(found)) for client, found in got.items()]
        tell.rows(("Client", "Network", "Was given", "Used"), rows)
        for client, found in got.items():
            for problem in found.failures:
                tell.note(f"{client}: {problem.name} did not deliver: {problem.reason}")
        office, branch, abroad = got[OFFICE], got[BRANCH], got[HOME_OFFICE]
        tell.claim(
            f"{OFFICE} (intranet) used its preferred point only",
            office.network == "intranet" and office.received("point") > 0 and office.received("cloud") == 0,
            _reason(office, TierKind.PREFERRED),
        )
        tell.claim(
            f"{BRANCH} (intranet, its point is off) fell back to the cloud",
            branch.network == "intranet" and branch.received("point") == 0 and branch.received("cloud") > 0,
            _reason(branch, TierKind.CLOUD),
        )
        tell.claim(
            f"{HOME_OFFICE} (internet) used the cloud",
            abroad.network == "internet" and abroad.received("cloud") > 0 and abroad.received("point") == 0,
            _reason(abroad, TierKind.CLOUD),
        )
        for found in got.values():
            world.compare(world.software.first, found)
        world.full_download = abroad.received()
        roles.restart_point(MUNICH)
        tell.figures(**{f"{client}_bytes": found.received() for client, found in got.items()})
        world.from_cloud = sum(found.received("cloud") for found in got.values())
        tell.figures(cloud_bytes=world.from_cloud)
        world.summary["Clients"] = f"preferred point; cloud as fallback; internet: {len(got)} trees equal their source"


def _cloud_is_off_by_default(world: World) -> None:
    """R5: until an administrator allows it, a client is told that it may not use the cloud."""
    home, name = str(world.clients[HOME_OFFICE]), world.software.name
    answer = world.roles.command("client", "locate", name, "--home", home, "--json", check=False)
    world.tell.claim(
        f"before an administrator allows cloud points, {HOME_OFFICE} is offered none, and told why",
        "Allow access to cloud distribution point" in answer,
        "client setting 'Allow access to cloud distribution point' is No by default",
    )


def _reason(found: Fetched, kind: TierKind) -> str:
    return next((f"{given.name}: {given.reason}" for given in found.located.given if given.tier == kind.value), "")


def look_inside(world: World) -> None:
    """Step 4: what a thief of the cloud's disk would find."""
    tell, software = world.tell, world.software
    with tell.step("Look into the cloud's store: nothing in it can be read"):
        tree = Trees(Home(world.clients[OFFICE])).of(software.name)[0]
        keys = [ref.key for part in tree.record.parts() for ref in part.chunks]
        needles = needles_of([software.first], [*keys, b"PRIVATE KEY", b"ENTREPOT ROOT KEY"])
        found = [search_store(store, needles) for store in stores(world)]
        objects, size = sum(one.objects for one in found), sum(one.bytes for one in found)
        problems = [text for one in found for text in one.found]
        tell.claim("the store holds the content", size > 0, f"{objects} files, {format_size(size)}")
        tell.claim(
            "no plaintext, no file name and no key is in it, and every object looks like noise",
            not problems,
            "; ".join(problems[:3])
            or f"searched all of it for {len(needles.samples)} samples of the source, {len(needles.names)} file names,"
            f" {len(needles.keys)} forms of keys",
        )
        tell.figures(store_files=objects, store_bytes=size, found=len(problems))
        world.summary["The cloud can read"] = f"nothing: {format_size(size)} searched for samples, names and keys"


def stores(world: World) -> list[Path]:
    """The object stores of the cloud host's services."""
    return sorted((world.roles.home("cloud-host") / "services").glob("*/store"))


def publish_next(world: World) -> None:
    """Step 5: the next release travels as a delta to clients, and without what the cloud has already."""
    tell, software = world.tell, world.software
    with tell.step(f"Publish the next release ({software.first_release} → {software.second_release})"):
        tell.command(f"entrepot content publish {software.second.name} --name {software.name}")
        tell.doing("publishing")
        version = world.publish_next(software.name, software.second)
        rows = world.distributed(software.name, BERLIN, MUNICH, CLOUD, version=2)
        sent, whole = rows[CLOUD].sent_bytes, version.stored_size
        tell.claim(
            "the cloud was sent only what it lacked",
            0 < sent < whole / 2,
            f"{format_size(sent)} of {format_size(whole)}: {100 * sent / whole:.1f} %",
        )
        delta = world.until("a delta is made and distributed", lambda: _delta_size(world))
        office = world.fetch(OFFICE, software.name)
        tell.command(f"entrepot client fetch {software.name}")
        tell.claim(
            "a client that has the first release fetched a small part of the second",
            office.version == 2 and 0 < office.received() < world.full_download / 2,
            f"{format_size(office.received())} instead of {format_size(world.full_download)}: "
            f"{100 * office.received() / world.full_download:.1f} %",
        )
        by_delta = sum(one.bytes for one in office.used if one.form == "delta")
        tell.claim("it came as a delta", by_delta > 0, f"delta {format_size(delta)}; used {used(office)}")
        world.compare(software.second, office)
        tell.figures(
            sent_to_cloud=sent,
            stored_bytes=whole,
            full_download=world.full_download,
            second_download=office.received(),
            delta_bytes=by_delta,
        )
        world.summary["Next release, client"] = (
            f"{format_size(office.received())} fetched instead of {format_size(world.full_download)} (delta)"
        )
        world.summary["Next release, cloud"] = f"{format_size(sent)} sent instead of {format_size(whole)} (dedupe)"


def _delta_size(world: World) -> int | None:
    """Size of the delta from version 1 to 2, once it is made and where the point has it."""
    version = world.newest(world.software.name)
    sizes = [delta.size for delta in version.deltas if delta.from_version == 1]
    if not sizes:
        return None
    home = str(world.clients[OFFICE])
    text = world.roles.command("client", "locate", world.software.name, "--home", home, "--json")
    return sizes[0] if 1 in decode(text, Located).deltas else None
