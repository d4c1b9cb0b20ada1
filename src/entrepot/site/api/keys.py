"""Keys: rotation of the content secret, rollover of signing keys, the trust document."""

from collections.abc import Awaitable, Callable

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from entrepot.protocol.keysapi import KeysInfo, RollRequest, RotationInfo, RotationRequest, SignedTrust, TrustDraft
from entrepot.protocol.removalapi import Removal
from entrepot.site.keys.rotation import Rotation
from entrepot.site.keys.signers import Signers


def key_routes(
    rotation: Rotation, signers: Signers, describe: Callable[[], Awaitable[KeysInfo]]
) -> list[HTTPRouteHandler]:
    """Everything below ``/keys``."""

    @get("/keys", tags=["Keys"])
    async def get_keys() -> KeysInfo:
        """Generations of the content secret, signing keys, certificates; never a secret."""
        return await describe()

    @post("/keys/rotate", status_code=200, tags=["Keys"])
    async def rotate_keys(data: JSONBody[RotationRequest]) -> RotationInfo:
        """Wrap the secrets anew; after a compromise, also make a new content secret and seal every version anew."""
        return await rotation.rotate(data)

    @post("/keys/reseal", status_code=200, tags=["Keys"])
    async def reseal_versions() -> RotationInfo:
        """Ask again for every version that is still to be sealed anew."""
        return await rotation.reseal()

    @post("/keys/roll", status_code=200, tags=["Keys"])
    async def draft_trust(data: JSONBody[RollRequest]) -> TrustDraft:
        """Make new signing keys and draft the trust document that lists them, for the root key to sign."""
        return await signers.prepare(data)

    @post("/keys/roll/removal", status_code=200, tags=["Keys"])
    async def foresee_trust(data: JSONBody[RollRequest]) -> Removal:
        """What such a rollover would do, and which keys would be believed no more; nothing is made."""
        return await signers.foresee(data)

    @post("/keys/trust", status_code=200, tags=["Keys"])
    async def publish_trust(data: JSONBody[SignedTrust]) -> KeysInfo:
        """Put a signed trust document into force."""
        await signers.accept(data.document)
        return await describe()

    return [get_keys, rotate_keys, reseal_versions, draft_trust, foresee_trust, publish_trust]
