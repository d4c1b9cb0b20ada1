"""The token endpoint: a client assertion in, an access token out (RFC 6749 4.4, RFC 7523 2.2; architecture 3).

Order of checks: form, signature, certificate, claims, then revocation, then that the assertion was never used. Errors
say precisely what is wrong with the caller's own credential, and nothing about anyone else's: an unknown subscription
and an unknown certificate look the same.
"""

from entrepot.cloud import oauth
from entrepot.cloud.host.subscriptions import ACTIVE, Subscriptions
from entrepot.core.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from entrepot.protocol.cloudhost import AccessToken
from entrepot.protocol.tokens import CLOCK_SKEW
from entrepot.trust.assertions import claimed_subscription, verify_client_assertion


class TokenEndpoint:
    """Gives access tokens to holders of uploaded certificates.

    Args:
        audience: the endpoint's own URL, exactly as sites know it.
        seconds: life of an access token.
    """

    def __init__(self, subscriptions: Subscriptions, *, audience: str, seconds: int) -> None:
        self._subscriptions = subscriptions
        self._audience = audience
        self._seconds = seconds

    def give(self, form: bytes, *, now: float) -> tuple[str, AccessToken]:
        """Answer one request.

        Args:
            form: the body, ``application/x-www-form-urlencoded``.

        Returns:
            the subscription, and its token.

        Raises:
            BadInputError: not such a request.
            UnauthenticatedError: the assertion is refused; why.
            ForbiddenError: the subscription is disabled.
        """
        token = oauth.assertion_of(form)
        claimed = claimed_subscription(token)
        assertion = verify_client_assertion(token, self._subscriptions.uploaded(claimed), self._audience, now)
        self._subscriptions.check_not_revoked(assertion.subscription, assertion.certificate)
        self._subscriptions.use_assertion(
            assertion.subscription, assertion.jti, expires=assertion.exp + CLOCK_SKEW, now=now
        )
        try:
            subscription = self._subscriptions.find(assertion.subscription)
        except NotFoundError:
            raise UnauthenticatedError("The assertion is refused: its subscription was removed.") from None
        if subscription.state != ACTIVE:
            raise ForbiddenError(
                f"The subscription {subscription.name!r} is disabled.",
                next_step="Ask the cloud host's administrator to enable it.",
            )
        access = self._subscriptions.give_token(
            subscription.id, assertion.certificate, expires=int(now) + self._seconds, now=now
        )
        return subscription.id, AccessToken(access_token=access, expires_in=self._seconds)
