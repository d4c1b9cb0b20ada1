"""Targets behind a good signature or a trusted connection: only the reader of the payload is left to refuse it."""

from typing import Final

from entrepot.client.fetch import describe
from entrepot.client.sources import SourceList
from entrepot.core.encoding import from_json, to_json
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.protocol import Freshness, SealedRef, SignedType
from entrepot.protocol.control import ControlDocument, ServiceState
from entrepot.protocol.dataplane import DocumentPage, ObjectPage
from entrepot.protocol.location import LocationReply, Network, Source, Tier, TierKind, Withheld
from entrepot.protocol.tokens import MAX_TOKEN_LIFETIME, MAX_TOKEN_SETS
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument
from entrepot.trust.signing import Ring, SigningKey, sign, take_apart
from entrepot.trust.tokens import mint_content_token, set_ids, verify_content_token
from entrepot.web.control import Obeyed, cuts, with_control
from entrepot.web.dataplane import check_document_page, check_object_page
from fuzz.target import Target, promise

_NOW: Final = 100.0
_SITE: Final = "PS1"
_POINT: Final = "pt-1"
_AFTER: Final = ObjectId(bytes(32))
_AUDIENCE: Final = "points:PS1"
_KEYS: Final = {
    role: SigningKey.from_private(Secret(bytes([number]) * 32))
    for number, role in enumerate((Role.CONTROL, Role.TOKEN, Role.POLICY))
}
_TRUST: Final = TrustDocument(
    hierarchy="Contoso",
    number=1,
    epoch=1,
    issued=0,
    keys=tuple(
        KeyEntry(kid=key.kid, role=role, site=_SITE, public=key.public, not_before=0, not_after=10**9)
        for role, key in _KEYS.items()
    ),
)
_RING: Final = Ring(_TRUST)
_OBEYED: Final = Obeyed(pin=bytes(32), point=_POINT, trust=_TRUST, ring=_RING)
_FRESH: Final = Freshness(epoch=1, counter=1, issued=0, expires=1000)


def _control(payload: bytes) -> None:
    """What is obeyed is this point's, from its site, and holds now."""
    text = sign(payload, typ=SignedType.CONTROL, key=_KEYS[Role.CONTROL]).encode()
    obeyed = with_control(_OBEYED, text, now=_NOW)
    control = obeyed.control
    promise(control is not None and (control.site, control.point) == (_SITE, _POINT), "another's document is obeyed")
    promise(control is not None and control.fresh.expires > _NOW, "an expired document is obeyed")
    cuts(_OBEYED, obeyed, now=_NOW)


def _claims(payload: bytes) -> None:
    """What a token opens is bounded in number and time, and meant for whoever is asked."""
    token = sign(payload, typ=SignedType.CONTENT_TOKEN, key=_KEYS[Role.TOKEN])
    claims = verify_content_token(token, _RING, _SITE, _AUDIENCE, None, _NOW)
    sets = set_ids(claims)
    promise(1 <= len(sets) <= MAX_TOKEN_SETS and {len(each) for each in sets} == {32}, "a token opens what is no set")
    promise(_NOW < claims.exp <= claims.iat + MAX_TOKEN_LIFETIME, "a token holds too long")
    promise(claims.aud == _AUDIENCE and claims.iss == _SITE and claims.sub != "", "a token of or for another")
    promise(claims.allow >= 0 and claims.rate >= 0, "a token allows less than nothing")


def _location(payload: bytes) -> None:
    """Whatever a reply says can be told and tried, and nothing is tried that it does not offer."""
    document = sign(payload, typ=SignedType.LOCATION, key=_KEYS[Role.POLICY])
    found = _RING.verify(document, typ=SignedType.LOCATION, role=Role.POLICY, now=_NOW)
    reply = from_json(found.payload, LocationReply, "location reply")
    sources = SourceList(reply)
    offered = {source.url for tier in reply.tiers for source in tier.sources}
    tried = sources.candidates(_NOW, patient=True)
    promise({each.source.url for each in tried} == offered, "other sources are tried than are offered")
    promise(all(sources.token(each) in {"", *reply.tokens.values()} for each in tried), "a token from nowhere")
    to_json(describe(reply, sources))


def _objects(data: bytes) -> None:
    page = check_object_page(from_json(data, ObjectPage, "answer"), _AFTER, 3)
    promise(len(page.ids) == len(page.sizes) <= 3, "a page has other sizes than ids")
    promise(not page.ids or page.ids[-1] > _AFTER.hex(), "a page leads back")
    promise(all(size >= 0 for size in page.sizes), "an object of less than no bytes")


def _documents(data: bytes) -> None:
    page = check_document_page(from_json(data, DocumentPage, "answer"), "a", 3)
    promise(len(page.keys) == len(page.sizes) <= 3, "a page has other sizes than keys")
    promise(not page.keys or page.keys[-1] > "a", "a page leads back")
    promise(all(size >= 0 for size in page.sizes), "a document of less than no bytes")


_REF: Final = SealedRef(bytes(32), 5017, 5000, bytes(32), bytes(32))
_CONTROL: Final = ControlDocument(
    site=_SITE, point=_POINT, fresh=_FRESH, state=ServiceState.RUNNING, token_kids=(_KEYS[Role.TOKEN].kid,)
)
_TOKEN: Final = mint_content_token(
    _KEYS[Role.TOKEN],
    site=_SITE,
    device="dev-1",
    audience=_AUDIENCE,
    sets=[bytes(32)],
    now=_NOW,
    jti="1",
    lifetime=600,
    allow=50,
    rate=50,
)
_SOURCE: Final = Source(point=_POINT, name="dp", url="https://dp", audience=_AUDIENCE, trust="system", reason="near")
_REPLY: Final = LocationReply(
    nonce="1",
    fresh=_FRESH,
    site=_SITE,
    device="dev-1",
    network=Network.INTRANET,
    content="pkg-1",
    name="App",
    version=1,
    root=_REF,
    set_id=bytes(32),
    tiers=(Tier(kind=TierKind.PREFERRED, sources=(_SOURCE,)),),
    withheld=(Withheld(name="dp2", reason="full"),),
    tokens={_AUDIENCE: _TOKEN},
)

DOCUMENTS: Final[dict[str, Target]] = {
    "control_document": Target(parse=_control, seeds=(to_json(_CONTROL),)),
    "content_claims": Target(parse=_claims, seeds=(take_apart(_TOKEN, typ=SignedType.CONTENT_TOKEN).payload,)),
    "location_reply": Target(parse=_location, seeds=(to_json(_REPLY),)),
    "object_page": Target(parse=_objects, seeds=(to_json(ObjectPage(ids=("11" * 32,), sizes=(5,), more=True)),)),
    "document_page": Target(
        parse=_documents, seeds=(to_json(DocumentPage(keys=("b", "c/d"), sizes=(5, 0), more=True)),)
    ),
}
