"""Which trust and control documents a holder of objects obeys: pure decisions (architecture 3, control document).

Rules:

- A trust document counts if the pinned root signed it and neither its number nor its epoch is lower than before.
- A control document counts if a control key of its own site, in the trust document obeyed now, signed it; it is for
  this point; its epoch is not below the trust document's; its (epoch, counter) is not lower than before; it has not
  expired. The same (epoch, counter) with other bytes is a forgery.
- What does not count changes nothing: the documents obeyed before stay, until they expire.
- A new trust document is applied to the control document at once: if its key is gone, nobody is served.
- No document, an expired one, one that could not be looked at for seconds, or state *stopped*: nobody is served.
"""

import msgspec

from entrepot.core.encoding import from_json
from entrepot.core.errors import FormatError, ReplayError, TrustError, UnavailableError, UnsupportedError
from entrepot.core.times import iso
from entrepot.protocol import SignedType
from entrepot.protocol.control import ControlDocument, ServiceState
from entrepot.protocol.tokens import CLOCK_SKEW
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.trust.root import verify_trust_by_fingerprint
from entrepot.trust.signing import Ring

VERSION = 1


class Obeyed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one request is judged by. Immutable: a request sees one state, never half a change.

    ``pin`` is the root's fingerprint; ``control`` is None when there is none that counts; ``ends`` when this process
    serves nobody any more, whatever the documents say; ``unconfirmed`` when it is not known whether they still are what
    the site wants.
    """

    pin: bytes
    point: str
    trust_text: bytes = b""
    trust: TrustDocument | None = None
    ring: Ring | None = None
    control_text: bytes = b""
    control: ControlDocument | None = None
    seen: tuple[int, int] = (0, 0)  # highest (epoch, counter) of a control document
    revoked_devices: frozenset[str] = frozenset()
    revoked_tokens: frozenset[str] = frozenset()
    ends: bool = False
    unconfirmed: bool = False
    least_trust: int = 0  # number of the highest trust document that was obeyed before this process began


def with_trust(obeyed: Obeyed, text: bytes, *, now: float) -> Obeyed:
    """The state after this trust document was found in the store; the same object when it is the one obeyed.

    Raises:
        TrustError, ReplayError, FormatError: it does not count.
    """
    if text == obeyed.trust_text:
        return obeyed
    offered = verify_trust_by_fingerprint(text, obeyed.pin)
    held = obeyed.trust
    if offered.number < obeyed.least_trust:
        raise ReplayError(f"The trust document {offered.number} is older than {obeyed.least_trust}, which was obeyed.")
    if held is not None and (offered.number < held.number or offered.epoch < held.epoch):
        raise ReplayError(f"The trust document {offered.number} is older than {held.number}, which is obeyed.")
    if held is not None and offered.number == held.number and offered != held:
        raise ReplayError(f"There are two different trust documents with number {held.number}.")
    fresh = msgspec.structs.replace(obeyed, trust_text=text, trust=offered, ring=Ring(offered))
    if not obeyed.control_text:
        return fresh
    try:
        return _judged(fresh, obeyed.control_text, now=now)
    except (TrustError, FormatError):
        return msgspec.structs.replace(fresh, control_text=b"", control=None)


def with_control(obeyed: Obeyed, text: bytes, *, now: float) -> Obeyed:
    """The state after this control document was found in the store; the same object when it is the one obeyed.

    Raises:
        TrustError, ReplayError, FormatError: it does not count.
    """
    return obeyed if text == obeyed.control_text else _judged(obeyed, text, now=now)


def _judged(obeyed: Obeyed, text: bytes, *, now: float) -> Obeyed:
    ring, trust = obeyed.ring, obeyed.trust
    if ring is None or trust is None:
        raise TrustError("There is a control document, but no trust document to verify it with.")
    verified = ring.verify(text, typ=SignedType.CONTROL, role=Role.CONTROL, now=now)
    control = from_json(verified.payload, ControlDocument, "control document")
    if control.version != VERSION:
        raise UnsupportedError(f"The control document has version {control.version}; this version reads {VERSION}.")
    if control.site != verified.site:
        raise TrustError("The control document names another site than the one that signed it.")
    if control.point != obeyed.point:
        raise TrustError(f"The control document is for the distribution point {control.point[:64]}, not for this one.")
    if obeyed.control is not None and control.site != obeyed.control.site:
        raise TrustError("The control document comes from another site than the one obeyed so far.")
    offered = (control.fresh.epoch, control.fresh.counter)
    if offered < obeyed.seen or control.fresh.epoch < trust.epoch:
        raise ReplayError("The control document is older than one that was obeyed already.")
    if offered == obeyed.seen and obeyed.control_text and text != obeyed.control_text:
        raise ReplayError("There are two different control documents with the same counter.")
    if now >= control.fresh.expires:
        raise ReplayError(f"The control document expired at {iso(control.fresh.expires)}.")
    return msgspec.structs.replace(
        obeyed,
        control_text=text,
        control=control,
        seen=offered,
        revoked_devices=frozenset(control.revoked_devices),
        revoked_tokens=frozenset(control.revoked_tokens),
    )


def serving(obeyed: Obeyed, *, now: float) -> tuple[ControlDocument, Ring]:
    """The control document and keys by which clients are served now.

    Raises:
        UnavailableError: nobody is served, and why.
    """
    control, ring = obeyed.control, obeyed.ring
    if obeyed.ends:
        raise UnavailableError(
            "This instance of the distribution point is being shut down.", next_step="Try again, or another source."
        )
    if obeyed.unconfirmed:
        raise UnavailableError(
            "This distribution point cannot see its control document now.", next_step="Try again, or another source."
        )
    if control is None or ring is None:
        raise UnavailableError(
            "This distribution point has no valid control document yet.", next_step="Try again, or another source."
        )
    if now >= control.fresh.expires:
        raise UnavailableError(
            f"The control document of this distribution point expired at {iso(control.fresh.expires)}.",
            next_step="Its site must be reachable to renew it; until then use another source.",
        )
    if control.state is not ServiceState.RUNNING:
        raise UnavailableError(
            "This distribution point was stopped by its administrator.", next_step="Use another source."
        )
    return control, ring


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Whose running downloads end because of a change."""

    everyone: bool = False
    devices: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()


def cuts(before: Obeyed, after: Obeyed, *, now: float) -> Cut:
    """Who is cut off by the step from one state to the next (or by time alone, when they are the same)."""
    try:
        control, _ = serving(after, now=now)
    except UnavailableError:
        return Cut(everyone=True)
    kids = set(before.control.token_kids) if before.control else set()
    ended = {entry.kid for entry in after.trust.keys if now >= entry.not_after - CLOCK_SKEW} if after.trust else set()
    bounded_before = before.control is not None and before.control.bounded is True
    if control.bounded is True and not bounded_before:
        return Cut(everyone=True)  # what runs on tokens without an allowance would be beyond the budget
    if kids - set(control.token_kids) - ended:
        return Cut(everyone=True)  # a token key was withdrawn: whoever still has a good token asks again
    return Cut(
        devices=after.revoked_devices - before.revoked_devices, tokens=after.revoked_tokens - before.revoked_tokens
    )
