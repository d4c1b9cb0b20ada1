"""The options that a kind of cloud has of its own (Azure's), and what an administrator may change of them later.

Rules:

- What is kept and the order to bring it to the cloud are one transaction: neither is ever there without the other.
- A registry's password is sealed before it is kept, and goes to no registry but the one that it was given for.
"""

import math
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.database import cloud, clouddetails
from entrepot.database.cloud import CloudPoint
from entrepot.database.clouddetails import CloudDetail
from entrepot.protocol.cloudapi import AzureOptions, OptionChange, UpdatePlan, UpdateRequest
from entrepot.site.cloud.providers import registry_secret
from entrepot.site.cloud.states import CloudAction, check_allowed
from entrepot.trust.vault import ServerVault

_SHORTEST_IMAGE: Final = 3
_CORE_STEPS: Final = 4
"""Azure gives cores by quarters, and two GiB of memory with each."""
GIB_A_CORE: Final = 2.0


class Options:
    """Keeps options of cloud points.

    Args:
        vault: seals the passwords of registries.
    """

    def __init__(self, vault: ServerVault) -> None:
        self._vault = vault

    def keep_first(self, connection: Connection, point: str, options: AzureOptions) -> None:
        """Keep those that a cloud point is created with."""
        clouddetails.keep_options(connection, point, options, self._sealed(point, options.registry_password))

    def keep_changed(self, connection: Connection, point: CloudPoint, request: UpdateRequest) -> None:
        """Keep those that were changed, in the transaction that orders the update.

        Raises:
            BadInputError: the point is not in Azure, or the options will not do.
        """
        if request == UpdateRequest():
            return
        kept = clouddetails.detail(connection, point.point)
        options = changed(_azure_of(kept, point), request)
        sealed = self._sealed(point.point, options.registry_password) if options.registry_password else b""
        if options.registry_user and not sealed:
            sealed = kept.sealed_secret
        clouddetails.keep_options(connection, point.point, options, sealed)

    def _sealed(self, point: str, password: str) -> bytes:
        return self._vault.seal(registry_secret(point), Secret(password)) if password else b""


def plan_update(connection: Connection, name_or_id: str, request: UpdateRequest) -> UpdatePlan:
    """What an update would change of a point's options; nothing is changed.

    Raises:
        NotFoundError: there is no such cloud point.
        ConflictError: it cannot be updated in its present state.
        BadInputError: as :meth:`Options.keep_changed`.
    """
    point = cloud.get_cloud_point(connection, name_or_id)
    check_allowed(CloudAction.UPDATE, point.state, point.name)
    kept = clouddetails.detail(connection, point.point)
    if kept.azure is None and request == UpdateRequest():
        return UpdatePlan(options=())
    before = _azure_of(kept, point)
    after = changed(before, request)
    return UpdatePlan(options=_in_words(kept, before, after), remarks=image_remarks(after))


def _azure_of(kept: CloudDetail, point: CloudPoint) -> AzureOptions:
    if kept.azure is None:
        raise BadInputError(
            f"{point.name} is not in Azure: image, registry, cores and memory are options of Azure.",
            next_step="A cloud host runs the gateways that are installed there: update Entrepôt on the host instead.",
        )
    return kept.azure


def changed(before: AzureOptions, request: UpdateRequest) -> AzureOptions:
    """The options after a change, checked as at creation. Only a new password is in them.

    Args:
        before: as kept, without the password.

    Raises:
        BadInputError: they will not do, or a password is missing or one too many.
    """
    cpu, memory = _size(before, request)
    image = before.image if request.image is None else request.image
    user = before.registry_user if request.registry_user is None else request.registry_user
    password = request.registry_password or ""
    options = msgspec.structs.replace(
        before, image=image, registry_user=user, registry_password=password, cpu=cpu, memory_gib=memory
    )
    check_options(options)
    if password and not user:
        raise BadInputError(
            "A password of the image registry needs its user.", next_step="Name the user, too (--registry-user)."
        )
    elsewhere = user != before.registry_user or registry_of(image) != registry_of(before.image)
    if user and elsewhere and not password:
        raise BadInputError(
            f"The password of {user} at the image registry {registry_of(image)} is missing.",
            next_step="Give it (--registry-password-file), or an empty --registry-user where the registry asks nobody.",
        )
    return options


def _size(before: AzureOptions, request: UpdateRequest) -> tuple[float, float]:
    """Cores and GiB of memory; one that is given alone brings the other along."""
    cpu, memory = request.cpu, request.memory_gib
    if cpu is None and memory is None:
        return before.cpu, before.memory_gib
    if cpu is None:
        assert memory is not None
        return memory / GIB_A_CORE, memory
    return cpu, cpu * GIB_A_CORE if memory is None else memory


def check_options(options: AzureOptions) -> None:
    """Check what Azure is to run: an image, and a size that it has.

    Raises:
        BadInputError: what is missing, or does not go together.
    """
    if len(options.image) < _SHORTEST_IMAGE:
        raise BadInputError(
            "Azure needs the gateway's image.", next_step="Name it with its digest: registry/name@sha256:…"
        )
    quarters = options.cpu * _CORE_STEPS
    if quarters != math.floor(quarters) or options.memory_gib != options.cpu * GIB_A_CORE:
        raise BadInputError(
            f"Azure has no replicas of {options.cpu:g} cores and {options.memory_gib:g} GiB.",
            next_step="Choose 0.25 to 4 cores in steps of 0.25, and twice as many GiB of memory.",
        )


def registry_of(image: str) -> str:
    """The server of an image's name."""
    return image.partition("/")[0]


def image_remarks(options: AzureOptions | None) -> tuple[str, ...]:
    """What should be thought over about an image. It may be used all the same."""
    if options is None or "@sha256:" in options.image:
        return ()
    return (
        f"The image {options.image} is named without its digest: whoever may push to the registry decides what the "
        "gateways run, replicas may run different ones, and an update brings a new image only when the name changes. "
        "Name it registry/name@sha256:…",
    )


def _in_words(kept: CloudDetail, before: AzureOptions, after: AzureOptions) -> tuple[OptionChange, ...]:
    has = "kept sealed" if kept.sealed_secret else "none"
    password = "a new one" if after.registry_password else has if after.registry_user else "none"
    rows = (
        ("image", before.image, after.image),
        ("registry user", before.registry_user or "none", after.registry_user or "none"),
        ("registry password", has, password),
        ("cores of a replica", f"{before.cpu:g}", f"{after.cpu:g}"),
        ("memory of a replica", f"{before.memory_gib:g} GiB", f"{after.memory_gib:g} GiB"),
    )
    return tuple(OptionChange(option=name, now=now, then=then) for name, now, then in rows)
