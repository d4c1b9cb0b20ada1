"""Answers location and policy requests: the facts of the snapshot, the decision of the rules, tokens and keys.

An answer opens a content (its root reference) only for a device that a deployment of it reaches; for any other the
content does not exist. Tokens name the version's object set and those of the deltas that are offered, and are made only
for points that are.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from entrepot.core.encoding import to_json
from entrepot.core.errors import NotFoundError
from entrepot.core.times import HOUR, Clock
from entrepot.database import locations
from entrepot.database.contents import Content, Delta, Version
from entrepot.database.devices import Device
from entrepot.database.engine import Database
from entrepot.database.locations import AskerRow
from entrepot.database.points import CLOUD
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.location import (
    DeltaOffer,
    LocationReply,
    LocationRequest,
    Network,
    Source,
    Tier,
    TierKind,
    Withheld,
)
from entrepot.protocol.policy import Assignment, ClientSettings, Policy
from entrepot.protocol.tokens import MAX_TOKEN_SETS, points_audience
from entrepot.rules import location
from entrepot.rules.boundaries import Address, groups_of, parse_addresses, reach
from entrepot.rules.location import Decision
from entrepot.site.absences import NOWHERE, absences
from entrepot.site.cost.budgets import BudgetBook, within_budgets
from entrepot.site.keys.sitekeys import SiteKeys, root_name
from entrepot.site.snapshot import Snapshot, merged_use
from entrepot.trust.signing import sign
from entrepot.trust.tokens import mint_content_token

REPLY_LIFETIME: Final = HOUR
POLICY_LIFETIME: Final = 8 * HOUR


class Locator:
    """Answers devices. The snapshot is renewed within a request when the change counter has moved."""

    def __init__(
        self,
        database: Database,
        *,
        keys: SiteKeys,
        clock: Clock,
        switches: location.Switches,
        budgets: BudgetBook | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._switches = switches
        self._budgets = budgets
        self._snapshot: Snapshot | None = None
        self._renewing = asyncio.Lock()

    async def asker(self, device_id: str) -> AskerRow:
        """A device as the database has it now."""
        return await self._database.read(locations.asker, device_id)

    async def current(self, counter: int) -> Snapshot:
        """A snapshot that is not older than this change counter."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.counter >= counter:
            return snapshot
        async with self._renewing:
            if self._snapshot is None or self._snapshot.counter < counter:
                self._snapshot = Snapshot(await self._database.read(locations.facts))
            return self._snapshot

    async def locate(self, row: AskerRow, request: LocationRequest, *, peer: str) -> str:
        """The signed answer to a location request.

        Args:
            row: the device, authenticated and approved.
            peer: the address that the request came from; counts when the client names none.

        Raises:
            NotFoundError: no such content, version, or deployment that reaches the device.
        """
        snapshot = await self.current(row.counter)
        return await asyncio.to_thread(self._locate, snapshot, row, request, peer)

    def _locate(self, snapshot: Snapshot, row: AskerRow, request: LocationRequest, peer: str) -> str:
        assert row.device is not None
        content = snapshot.content(request.content)
        uses = snapshot.uses(content.id, row.collections) if content is not None else []
        version = snapshot.version(content.id, request.version or content.current) if content is not None else None
        if content is None or version is None or not uses:
            raise NotFoundError(
                "There is no such content for this device.",
                next_step="Check its name, and that it is published and deployed to a collection of the device.",
            )
        addresses = parse_addresses(request.addresses or (peer,))
        asker = location.Asker(
            network=location.Network(_network(addresses, snapshot).value),
            allow_cloud=bool(snapshot.effective(row.collections).values["allow_cloud"]),
            reach=reach(addresses, snapshot.groups),
        )
        version, decision = self._decide(snapshot, version, asker, merged_use(uses))
        offers = _useful_deltas(snapshot, content, version, request.held)
        reply = self._reply(snapshot, row.device, request, content, version, asker, addresses, decision, offers)
        if self._budgets is not None:
            needed = version.stored_size + sum(delta.size for delta in offers)
            reply = within_budgets(reply, self._budgets, self._keys, counter=snapshot.counter, needed=needed)
        if not reply.tiers:
            reply = self._with_absences(reply, version)
        return sign(to_json(reply), typ=SignedType.LOCATION, key=self._keys.policy)

    def _with_absences(self, reply: LocationReply, version: Version) -> LocationReply:
        """Nobody should have to guess why there is no source: also points that lack the version are named."""
        with self._database.reading() as connection:
            found = (*reply.withheld, *absences(connection, version))
        return msgspec.structs.replace(reply, withheld=found or (NOWHERE,))

    def _decide(
        self, snapshot: Snapshot, version: Version, asker: location.Asker, use: location.Use
    ) -> tuple[Version, Decision]:
        """Where the version is. While no point that is offered has its new sealing yet, its former one is given."""
        candidates = [version]
        if version.former_set_id is not None and version.former_root is not None:
            former = msgspec.structs.replace(version, set_id=version.former_set_id, root=version.former_root)
            candidates.append(former)
        decisions = [
            location.locate(
                snapshot.holders(each.set_id),
                asker,
                use,
                order=location.random_order(secrets.token_bytes(16)),
                switches=self._switches,
            )
            for each in candidates
        ]
        for each, decision in zip(candidates, decisions, strict=True):
            if any(tier.offers for tier in decision.tiers):
                return each, decision
        withheld = {each.point: each for decision in reversed(decisions) for each in decision.withheld}
        return version, Decision(tiers=(), withheld=tuple(withheld.values()))

    def _reply(
        self,
        snapshot: Snapshot,
        device: Device,
        request: LocationRequest,
        content: Content,
        version: Version,
        asker: location.Asker,
        addresses: Sequence[Address],
        decision: Decision,
        deltas: list[Delta],
    ) -> LocationReply:
        tiers = tuple(
            Tier(
                kind=TierKind(tier.kind.value),
                sources=tuple(self._source(snapshot, offer, deltas) for offer in tier.offers),
            )
            for tier in decision.tiers
        )
        offered = {from_version for tier in tiers for source in tier.sources for from_version in source.deltas}
        named = [delta for delta in deltas if delta.from_version in offered]
        audiences = sorted({source.audience for tier in tiers for source in tier.sources})
        return LocationReply(
            nonce=request.nonce,
            fresh=self._freshness(snapshot, REPLY_LIFETIME),
            site=self._keys.site.code,
            device=device.id,
            network=Network(asker.network.value),
            content=content.id,
            name=content.name,
            version=version.number,
            root=self._keys.open_ref(root_name(content.id, version.number), version.root),
            set_id=version.set_id,
            tiers=tiers,
            withheld=tuple(Withheld(name=each.name, reason=each.reason) for each in decision.withheld),
            tokens={audience: self._token(device, audience, version, named) for audience in audiences},
            deltas=tuple(self._delta_offer(delta) for delta in named),
            trust_number=self._keys.hierarchy.trust_number,
            addresses=tuple(map(str, addresses)),
        )

    def _source(self, snapshot: Snapshot, offer: location.Offer, deltas: list[Delta]) -> Source:
        point = snapshot.points[offer.point]
        cloud = point.kind == CLOUD
        return Source(
            point=point.id,
            name=point.name,
            url=point.url,
            audience=point.id if cloud else points_audience(self._keys.site.code),
            trust="system" if cloud else "hierarchy",
            reason=offer.reason,
            deltas=tuple(delta.from_version for delta in deltas if snapshot.holds(point.id, delta.set_id)),
        )

    def _token(self, device: Device, audience: str, version: Version, deltas: list[Delta]) -> str:
        return mint_content_token(
            self._keys.token,
            site=self._keys.site.code,
            device=device.id,
            audience=audience,
            sets=[version.set_id, *(delta.set_id for delta in deltas)][:MAX_TOKEN_SETS],
            now=self._clock(),
            jti=secrets.token_hex(16),
        )

    def _delta_offer(self, delta: Delta) -> DeltaOffer:
        name = root_name(delta.content, delta.to_version, delta.from_version)
        return DeltaOffer(
            from_version=delta.from_version,
            root=self._keys.open_ref(name, delta.root),
            set_id=delta.set_id,
            size=delta.size,
            fetched=delta.fetched,
        )

    async def policy(self, row: AskerRow) -> str:
        """The signed policy of a device."""
        snapshot = await self.current(row.counter)
        assert row.device is not None
        values = snapshot.effective(row.collections).values
        policy = Policy(
            device=row.device.id,
            fresh=self._freshness(snapshot, POLICY_LIFETIME),
            settings=ClientSettings(**values),  # type: ignore[arg-type]  # values of SettingsValues, checked on entry
            assignments=tuple(
                Assignment(
                    deployment=deployment.id,
                    content=content.id,
                    name=content.name,
                    type=content.type.value,
                    version=content.current,
                )
                for deployment, content in snapshot.assignments(row.collections)
            ),
        )
        return sign(to_json(policy), typ=SignedType.POLICY, key=self._keys.policy)

    def _freshness(self, snapshot: Snapshot, lifetime: int) -> Freshness:
        now = int(self._clock())
        return Freshness(epoch=snapshot.epoch, counter=snapshot.counter, issued=now, expires=now + lifetime)


def _network(addresses: Sequence[Address], snapshot: Snapshot) -> Network:
    """On the intranet is who is inside a boundary group; where none is defined, who has private addresses only."""
    if snapshot.groups:
        return Network.INTRANET if groups_of(addresses, snapshot.groups) else Network.INTERNET
    inside = bool(addresses) and all(_private(address) for address in addresses)
    return Network.INTRANET if inside else Network.INTERNET


def _private(address: Address) -> bool:
    documentation = isinstance(address, ipaddress.IPv4Address) and any(
        address in ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
    )
    return address.is_private and not documentation


def _useful_deltas(snapshot: Snapshot, content: Content, version: Version, held: tuple[int, ...]) -> list[Delta]:
    """Deltas from versions that the client has, the newest first."""
    wanted = set(held)
    found = [delta for delta in snapshot.deltas(content.id, version.number) if delta.from_version in wanted]
    return sorted(found, key=lambda delta: -delta.from_version)
