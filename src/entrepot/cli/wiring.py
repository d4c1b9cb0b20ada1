"""Which adapter stands behind which port: sites and clouds are strangers, the command line introduces them."""

from entrepot.cloud.providers.host import HostProvider
from entrepot.core.errors import BadInputError
from entrepot.protocol.cloudapi import ARM, AZURE, HOST
from entrepot.site.cloudport import Cloud, CloudConnection, ProviderFactory


def cloud_providers(proxy: str = "", ca: str = "") -> ProviderFactory:
    """Makes the provider that a cloud point's connection names.

    Args:
        proxy: URL of an HTTP proxy on the site's way out; empty for none.
        ca: path of a PEM file with the CAs to trust instead of the system's, where a proxy opens TLS; empty for none.
            A cloud host is recognised by its pin, whatever this says.
    """

    def make(connection: CloudConnection) -> Cloud:
        if connection.provider == AZURE:
            return _azure(connection, proxy, ca)
        if connection.provider != HOST:
            raise BadInputError(
                f"{connection.provider!r} is not a kind of cloud that is known here.", next_step="Use host or azure."
            )
        return HostProvider(
            url=connection.url,
            pin=connection.pin,
            next_pin=connection.next_pin,
            subscription=connection.subscription,
            certificate=connection.certificate,
            private_key=connection.private_key,
            proxy=proxy or None,
        )

    return make


def _azure(connection: CloudConnection, proxy: str, ca: str) -> Cloud:
    """The Azure adapter, loaded now and not before: its SDKs are an extra, and take 60 MiB."""
    try:
        from entrepot.cloud.providers.azure.account import AzureAccess
        from entrepot.cloud.providers.azure.provider import AzureProvider
    except ModuleNotFoundError:
        raise BadInputError(
            "The Azure SDKs are not installed on this site server.",
            next_step="Run in the checkout: pip install '.[server,azure]'",
        ) from None
    if connection.azure is None:
        raise BadInputError("Azure needs a tenant, an application (client) id and the gateway's image.")
    return AzureProvider(
        AzureAccess(
            subscription=connection.subscription,
            options=connection.azure,
            certificate=connection.certificate,
            private_key=connection.private_key,
            region=connection.region,
            arm=connection.url or ARM,
            mark=connection.mark,
            proxy=proxy,
            ca=ca,
        )
    )
