"""Who may do what on a holder of objects, from tokens and the documents that it obeys (architecture 3).

Signatures of tokens are checked once a minute each; validity, revocation and the holder's state at every request.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from entrepot.core.errors import ForbiddenError, UnauthenticatedError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import MINUTE, Clock
from entrepot.protocol.control import ControlDocument
from entrepot.protocol.tokens import ContentClaims
from entrepot.protocol.trust import Role
from entrepot.trust.signing import Ring
from entrepot.trust.tokens import set_ids, verify_content_token, verify_site_token
from entrepot.web.control import Obeyed, serving
from entrepot.web.grants import Grant
from entrepot.web.sets import SetLibrary

CACHED_TOKENS: Final = 20_000
RECENT_TOKENS: Final = 512
"""Tokens that are found without hashing them: 3 MiB at most, for they are kept whole."""


class _Verified:
    """What is kept of a token: a third of its size."""

    __slots__ = ("allow", "device", "expires", "jti", "rate", "sets", "until")

    def __init__(self, claims: ContentClaims, until: float) -> None:
        self.device = claims.sub
        self.jti = claims.jti
        self.allow = claims.allow
        self.rate = claims.rate
        self.expires = claims.exp
        self.sets = set_ids(claims)
        self.until = until


class TokenAuthoriser:
    """An :class:`~entrepot.web.grants.Authoriser` by content tokens and site tokens.

    Args:
        obeyed: gives the state that counts now.
        site: the site that this holder belongs to.
        audience: what the holder is called in content tokens.
        point: its id, the audience of site tokens.
        sets: the object sets that it holds.
    """

    def __init__(
        self,
        obeyed: Callable[[], Obeyed],
        *,
        site: str,
        audience: str,
        point: str,
        sets: SetLibrary,
        clock: Clock = time.time,
    ) -> None:
        self._obeyed = obeyed
        self._site_code = site
        self._audience = audience
        self._point = point
        self._sets = sets
        self._clock = clock
        self._cache: OrderedDict[bytes, _Verified] = OrderedDict()
        self._recent: dict[bytes, _Verified] = {}  # a part of the cache
        self._cached_for: tuple[Ring, ControlDocument] | None = None
        self._judged: Obeyed | None = None  # by which the tokens in the cache were found good
        self._before: OrderedDict[bytes, _Verified] = OrderedDict()  # what was good under the documents before

    async def client(self, token: str, object_id: ObjectId) -> Grant:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        now = self._clock()
        obeyed = self._obeyed()
        control, ring = serving(obeyed, now=now)
        verified = self._verify(token, ring, control, now)
        self._judged = obeyed
        if verified.device in obeyed.revoked_devices or verified.jti in obeyed.revoked_tokens:
            raise ForbiddenError("The site has withdrawn this access.", next_step="Ask the site's administrator.")
        if control.bounded is True and not verified.allow:
            raise UnauthenticatedError(
                "A transfer budget was set for this distribution point after this token was given out.",
                next_step="Ask the management point again: it gives a token with an allowance, or says why not.",
            )
        set_id = await self._sets.first_holding(verified.sets, object_id)
        return Grant(
            device=verified.device,
            jti=verified.jti,
            set_id=set_id or b"",
            allow=verified.allow,
            rate=verified.rate,
            expires=verified.expires,
        )

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        now = self._clock()
        obeyed = self._obeyed()
        # Clients were served by this very state a moment ago. Only time can have ended that since.
        if obeyed is not self._judged or (control := obeyed.control) is None or now >= control.fresh.expires:
            return None
        known = self._recent.get(token) or self._shown_again(token)
        if known is None or now >= known.until or known.allow or known.rate or control.bounded is True:
            return None
        if known.device in obeyed.revoked_devices or known.jti in obeyed.revoked_tokens:
            return None
        set_id = self._sets.first_holding_at_once(known.sets, object_id)
        return None if set_id is None else Grant(device=known.device, jti=known.jti, set_id=set_id)

    def _shown_again(self, token: bytes) -> _Verified | None:
        known = self._cache.get(_key(token))
        if known is not None:
            if len(self._recent) >= RECENT_TOKENS:
                self._recent.clear()
            self._recent[token] = known
        return known

    def knows(self, token: str) -> bool:
        """See :class:`~entrepot.web.grants.Authoriser`."""
        key = _key(token.encode())
        known = self._cache.get(key) or self._before.get(key)
        return known is not None and self._clock() < known.expires

    async def site(self, token: str) -> None:
        """See :class:`~entrepot.web.grants.Authoriser`. Works without, and after, a control document: it is by this
        way that the next one arrives; then every token key of the trust document counts. So it does when that document
        lists none of the control document's keys any more: they were withdrawn, and the next one says so."""
        now = self._clock()
        obeyed = self._obeyed()
        if obeyed.ring is None:
            raise UnavailableError("This distribution point has no trust document.", next_step="Enrol it again.")
        control = obeyed.control
        current = control is not None and now < control.fresh.expires
        kids = control.token_kids if control is not None and current else None
        if kids is not None and not set(kids) & set(obeyed.ring.kids(Role.TOKEN, site=self._site_code, now=now)):
            kids = None
        verify_site_token(token, obeyed.ring, self._site_code, self._point, kids, now)

    def _verify(self, token: str, ring: Ring, control: ControlDocument, now: float) -> _Verified:
        if self._cached_for is None or self._cached_for[0] is not ring or self._cached_for[1] is not control:
            self._remember(now)
            self._cached_for = (ring, control)
        key = _key(token.encode())
        known = self._cache.get(key)
        if known is not None and now < known.until:
            return known
        self._before.pop(key, None)  # it is good now, too, or not known any more
        claims = verify_content_token(token, ring, self._site_code, self._audience, control.token_kids, now)
        verified = self._cache[key] = _Verified(claims, min(claims.exp, now + MINUTE))
        self._recent.pop(token.encode(), None)
        if len(self._cache) > CACHED_TOKENS:
            _, gone = self._cache.popitem(last=False)
            self._recent = {shown: known for shown, known in self._recent.items() if known is not gone}
        return verified

    def _remember(self, now: float) -> None:
        """Begin anew for other documents; tokens stay known until they end, however many documents come meanwhile."""
        before = OrderedDict((key, known) for key, known in self._before.items() if now < known.expires)
        for key, known in self._cache.items():
            before.pop(key, None)  # at the end, among the newest
            if now < known.expires:
                before[key] = known
        while len(before) > CACHED_TOKENS:
            before.popitem(last=False)
        self._before, self._cache, self._recent = before, OrderedDict(), {}


def _key(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
