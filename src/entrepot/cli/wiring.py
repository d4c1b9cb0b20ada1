"""Which adapter stands behind which port: sites and clouds are strangers, the command line introduces them."""

from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import BadInputError
from entrepot.site.cloudport import CloudConnection, CloudProvider, ProviderFactory

HOST = "host"


def cloud_providers(proxy: str = "") -> ProviderFactory:
    """Makes the provider that a cloud point's connection names.

    Args:
        proxy: URL of an HTTP proxy on the site's way out; empty for none.
    """

    def make(connection: CloudConnection) -> CloudProvider:
        if connection.provider != HOST:
            raise BadInputError(
                f"{connection.provider!r} is not a kind of cloud that this version knows.", next_step="Use host."
            )
        return HostProvider(
            url=connection.url,
            pin=connection.pin,
            subscription=connection.subscription,
            certificate=connection.certificate,
            private_key=connection.private_key,
            proxy=proxy or None,
        )

    return make
