"""What a deployment will send through the cloud, before it is made. Pure.

Clients come in groups that need the same bytes: those that hold a version from which a delta leads to the new one,
those that hold an older version (they fetch only what is new), those that hold nothing, or only a newer
version: what they lack of an older one is not known.
"""

from collections.abc import Mapping

import msgspec

from entrepot.rules.plan import DELTA_REQUESTS, packs_of


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the version that is deployed: sealed bytes of all it needs, what of it was new, and how many objects
    each; ``deltas``: bytes of the delta from an earlier version."""

    stored: int
    objects: int
    new_bytes: int
    new_objects: int
    deltas: Mapping[int, int]


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and requests to clients; ``full…``: if every client downloaded everything."""

    clients: int
    full: int
    full_requests: int
    sent: int
    requests: int
    by_delta: int
    by_difference: int
    by_whole: int
    up_to_date: int


def volume(size: Size, held: Mapping[int, int], *, version: int, share: float) -> Volume:
    """Add up what clients will need.

    Args:
        size: of the version.
        held: how many clients hold which version now; 0: none.
        version: the one that is deployed.
        share: of the clients that come through the cloud, 0 to 1.
    """
    clients = {number: round(count * share) for number, count in held.items()}
    sent = requests = by_delta = by_difference = by_whole = up_to_date = 0
    for number, count in clients.items():
        if number == version:
            up_to_date += count
        elif number in size.deltas:
            by_delta += count
            sent += count * min(size.deltas[number], size.stored)
            requests += count * (DELTA_REQUESTS + packs_of(size.deltas[number]))
        elif 0 < number < version:
            by_difference += count
            sent += count * min(size.new_bytes, size.stored)
            requests += count * size.new_objects  # the parts of its manifest that changed are among them
        else:
            by_whole += count
            sent += count * size.stored
            requests += count * size.objects
    coming = by_delta + by_difference + by_whole
    return Volume(
        clients=coming,
        full=coming * size.stored,
        full_requests=coming * size.objects,
        sent=sent,
        requests=requests,
        by_delta=by_delta,
        by_difference=by_difference,
        by_whole=by_whole,
        up_to_date=up_to_date,
    )
