"""DNS records that a cloud wants to see before it serves a name, beside the alias: which of them are there (R6)."""

from collections.abc import Sequence
from typing import Final

from entrepot.core.times import DAY, MINUTE
from entrepot.protocol.cloudapi import AZURE, HealthDetail
from entrepot.protocol.cloudhost import NeededRecord, proof_name
from entrepot.protocol.cloudpointapi import DnsProof
from entrepot.site.cloud.dns import Texts

FIRST_PAUSE: Final = 10 * MINUTE
"""Between two attempts to bind a name whose records are seen; doubled with each: the cloud may see them later."""
UNSEEN_PAUSE: Final = DAY
"""While a record is not seen: this server's DNS may not know what the cloud's does."""


async def look_for(records: Sequence[NeededRecord], texts: Texts) -> tuple[DnsProof, ...]:
    """Ask DNS for the records, but for those of which the cloud does not tell what to write: nobody can create them."""
    found = []
    for record in records:
        if not record.value:
            continue
        told = await texts(record.name)
        seen = None if told is None else record.value in told
        found.append(DnsProof(name=record.name, type=record.type, value=record.value, seen=seen))
    return tuple(found)


def all_seen(proofs: Sequence[DnsProof]) -> bool:
    """Whether nothing is missing, as far as this server's DNS knows. Of a cloud that does not tell which records it
    wants to see, nothing is known."""
    return bool(proofs) and all(proof.seen for proof in proofs)


def missing(proofs: Sequence[DnsProof]) -> str:
    """What to create; empty when every record is there."""
    told = [
        f"Create the DNS record {one.name} {one.type} {one.value}: "
        + ("it is not there yet." if one.seen is False else "this server cannot tell whether it is there.")
        for one in proofs
        if not one.seen
    ]
    return " ".join(told)


def details_of(proofs: Sequence[DnsProof]) -> tuple[HealthDetail, ...]:
    """A line for each record, for people."""
    states = {True: "good", False: "bad", None: "unknown"}
    return tuple(
        HealthDetail(name=f"DNS record {one.name}", state=states[one.seen], message=missing([one])) for one in proofs
    )


def pause_before(attempts: int, *, seen: bool) -> float:
    """Seconds from the last attempt to bind a name to the next.

    Args:
        attempts: how many there were within a day.
        seen: whether all records are there.
    """
    if not attempts:
        return 0.0
    return float(min(FIRST_PAUSE * 2 ** min(attempts - 1, 10), DAY) if seen else UNSEEN_PAUSE)


def records_left(fqdn: str, provider: str) -> str:
    """What only people can remove after a deletion: whoever gets the name that a record leads to could serve by it."""
    proof = f", and its TXT record {proof_name(fqdn)}" if provider == AZURE else ""
    return f"Remove its DNS record {fqdn}{proof}."
