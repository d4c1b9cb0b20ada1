"""Which cloud, which subscription: what a request must say for each kind of cloud."""

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.database.cloud import ManagementCertificate
from entrepot.protocol.cloudapi import ARM, AZURE, HOST, CloudAccount
from entrepot.protocol.cloudpointapi import CloudPointRequest
from entrepot.site.cloud.options import check_options
from entrepot.trust.certificates import UnsuitableCertificateError


def check_account(request: CloudPointRequest) -> CloudPointRequest:
    """Check what a kind of cloud needs, and fill in what it has by default.

    Raises:
        BadInputError: something is missing, or does not belong to that kind of cloud.
    """
    if request.provider == HOST:
        return _check_host(request)
    if request.provider == AZURE:
        return _check_azure(request)
    raise BadInputError(f"{request.provider!r} is not a kind of cloud.", next_step="Use host or azure.")


def _check_host(request: CloudPointRequest) -> CloudPointRequest:
    if not request.host_url.startswith("https://"):
        raise BadInputError(
            "The address of the cloud host's management API is missing, or does not begin with https://.",
            next_step="Give it by --host (host_url), as `entrepot host init` printed it. For Azure: --azure-tenant.",
        )
    if len(request.host_pin) != 64:
        raise BadInputError(
            "The cloud host is recognised by a pin.",
            next_step="Give the SHA-256 that `entrepot host init` printed, by --host-pin (host_pin).",
        )
    if request.azure is not None:
        raise BadInputError("A cloud host has no Azure options.", next_step="Leave them out, or use azure.")
    return request


def _check_azure(request: CloudPointRequest) -> CloudPointRequest:
    if request.azure is None:
        raise BadInputError("Azure needs a tenant, an application (client) id and the gateway's image.")
    check_options(request.azure)
    if not request.region:
        raise BadInputError("Azure needs a region.", next_step="Name one, such as westeurope.")
    if request.host_pin:
        raise BadInputError("Azure has no pin: its certificates are verified by the system's trusted roots.")
    if request.port not in (0, 443):
        raise BadInputError("Azure serves clients on port 443.", next_step="Leave the port out.")
    if request.host_url and not request.host_url.startswith("https://"):
        raise BadInputError("The address of Azure Resource Manager begins with https://.")
    return msgspec.structs.replace(request, host_url=request.host_url or ARM)


def check_key_kind(provider: str, certificate: ManagementCertificate) -> None:
    """Azure's sign-in takes RSA only.

    Raises:
        UnsuitableCertificateError: another kind of key.
    """
    if provider == AZURE and not certificate.key_kind.startswith("rsa-"):
        raise UnsuitableCertificateError(
            f"The management certificate {certificate.name} has a key of kind {certificate.key_kind}; "
            "Azure takes RSA only.",
            next_step="Make one: entrepot certificate new-management NAME --key rsa",
        )


def account_of(request: CloudPointRequest) -> CloudAccount:
    """The subscription of a request."""
    return CloudAccount(
        subscription=request.subscription,
        management_certificate=request.management_certificate,
        provider=request.provider,
        host_url=request.host_url,
        host_pin=request.host_pin,
        region=request.region,
        azure=request.azure,
    )
