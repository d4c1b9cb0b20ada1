"""Makes a cloud point in Azure, step by step, or brings it to what is wanted. Safe to repeat after a crash anywhere."""

import functools
import secrets
import time
from typing import Any, Final

from entrepot.cloud.providers.azure import bodies, names
from entrepot.cloud.providers.azure.account import AzureAccount, Progress
from entrepot.cloud.providers.azure.errors import AzureRefusedError, azure_errors
from entrepot.cloud.providers.azure.names import Names
from entrepot.cloud.providers.azure.ownership import Claim, found
from entrepot.cloud.providers.azure.storage import ensure_account, ensure_role
from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.protocol.cloudhost import ServiceSpec
from entrepot.trust.certificates import thumbprint, to_pfx
from entrepot.trust.pem import load_chain, load_key

PROVIDERS: Final = ("Microsoft.App", "Microsoft.Storage", "Microsoft.Insights")
_REGISTER_SECONDS: Final = 600.0
_PRINCIPAL_TRIES: Final = 12


class Deployment:
    """One service's creation or change.

    Args:
        progress: told before each step; raises to stop there.
    """

    def __init__(self, account: AzureAccount, service: str, spec: ServiceSpec, progress: Progress) -> None:
        self._account = account
        self._spec = spec
        self._service = service
        self._progress = progress
        self._names: Names = names.names_of(service, spec.point, account.access.options.resource_group)
        self._tags = names.marks(service, spec.point, spec.fqdn, account.access.mark)
        self._claim = Claim(account, service, spec.point, self._names)

    def run(self) -> None:
        """Do it, or what is left of it.

        Raises:
            UnavailableError: something went away while it was being made: an earlier deletion came to its end.
            EntrepotError: as ``errors`` translates.
        """
        try:
            self._run()
        except NotFoundError as error:
            raise UnavailableError(error.message, next_step="It is made anew when this is tried again.") from error

    def _run(self) -> None:
        self._progress("Checking the names")
        checked = self._claim.check_all()
        register_providers(self._account, self._progress)
        if not checked:
            self._claim.check_all()
        self._group()
        self._progress("Looking at the storage account")
        storage_id, endpoint = ensure_account(
            self._account, self._names.group, self._names.storage, self._tags, self._progress
        )
        self._role(storage_id, self._account.principal(), "the site")
        environment = self._environment()
        kept = self._certificate()
        app = self._app(environment, endpoint, kept)
        if app.identity is None or not app.identity.principal_id:
            raise UnavailableError("Azure has not given the gateways an identity yet.")
        self._role(storage_id, app.identity.principal_id, "the gateways")
        self._drop_old_certificates(app, kept)

    def _group(self) -> None:
        group = self._names.group
        self._progress(f"Looking at the resource group {group}")
        operations, what = self._account.resources.resource_groups, f"the resource group {group}"
        present = found(lambda: operations.get(group), what)
        self._claim.check_group(present)
        if present is None:
            self._progress(f"Creating the resource group {group}")
            tags = self._tags if self._names.own_group else {}
            body: Any = {"location": self._account.access.region, "tags": tags}
            self._account.patiently(lambda: operations.create_or_update(group, body), what, self._progress)

    def _role(self, scope: str, principal: str, who: str) -> None:
        self._progress(f"Allowing {who} to use the storage account")
        for attempt in range(_PRINCIPAL_TRIES):
            try:
                ensure_role(self._account, scope, principal)
                return
            except UnavailableError:
                if attempt == _PRINCIPAL_TRIES - 1:
                    raise
                self._account.pause(self._account.access.polling, f"Waiting until Azure knows {who}", self._progress)

    def _environment(self) -> Any:
        group, name = self._names.group, self._names.environment
        what = f"the environment {name}"
        operations = self._account.apps.managed_environments
        body = bodies.environment(self._account.access.region, self._tags)
        present: Any = None

        def begun() -> Any | None:
            nonlocal present
            present = found(lambda: operations.get(group, name), what)
            self._claim.check(present, f"an environment {name}")
            if present is not None and present.properties.provisioning_state == "Succeeded":
                return None
            self._progress(f"Creating {what}")
            return operations.begin_create_or_update(group, name, body)

        made = self._account.order(begun, what, self._progress)
        return present if made is None else made

    def _certificate(self) -> str:
        """The service certificate in the environment; its resource id."""
        chain = load_chain(self._spec.certificate)
        name = names.certificate_name(thumbprint(chain[0]).hex())
        group, environment = self._names.group, self._names.environment
        operations = self._account.apps.certificates
        present = found(lambda: operations.get(group, environment, name), f"the certificate {name}")
        if present is None or present.properties.provisioning_state != "Succeeded":
            self._progress("Handing over the service certificate")
            password = secrets.token_urlsafe(24)
            key = load_key(Secret(self._spec.private_key.encode()))
            pfx = to_pfx(self._service, key, chain[0], Secret(password), tuple(chain[1:]))
            body = bodies.certificate(self._account.access.region, self._tags, pfx, password)
            present = self._account.patiently(
                lambda: operations.create_or_update(group, environment, name, body),
                "the service certificate",
                self._progress,
            )
        return str(present.id)

    def _app(self, environment: Any, endpoint: str, certificate: str) -> Any:
        """The container app; its name is bound when DNS proves that it is ours, else it goes on under Azure's own."""
        group, name = self._names.group, self._names.app
        what = f"the container app {name}"
        operations = self._account.apps.container_apps
        before = found(lambda: operations.get(group, name), what)
        self._claim.check(before, f"a container app {name}")
        stopped = before is not None and before.properties.running_status == "Stopped"
        config = bodies.gateway_config(self._service, self._spec, self._names.storage, endpoint)
        bound = {"name": self._spec.fqdn, "bindingType": "SniEnabled", "certificateId": certificate}
        attempts = [[], [bound]] if before is None else [[bound], _domains(before)]
        app: Any = before
        for domains in attempts:
            self._progress(f"Bringing {what} to what is wanted" if before else f"Creating {what}")
            body = bodies.app(
                region=self._account.access.region,
                tags=self._tags,
                environment_id=str(environment.id),
                options=self._account.access.options,
                config=config,
                instances=self._spec.instances,
                domains=domains,
            )
            try:
                begin = functools.partial(operations.begin_create_or_update, group, name, body)
                app = self._account.order(begin, what, self._progress)
            except AzureRefusedError as error:
                if not (domains and "CustomHostName" in error.message):
                    raise
                continue  # DNS does not prove the name yet: the status says which records to create
            if domains:
                break
        if stopped:
            self._account.order(lambda: operations.begin_stop(group, name), what, self._progress)
        return app

    def _drop_old_certificates(self, app: Any, kept: str) -> None:
        """Remove certificates that a renewal replaced; one that a domain still uses stays."""
        used = {str(one.certificate_id) for one in (app.properties.configuration.ingress.custom_domains or ())} | {kept}
        group, environment = self._names.group, self._names.environment

        def drop() -> None:
            for one in list(self._account.apps.certificates.list(group, environment)):
                ours = names.is_ours(one.tags, self._service, self._account.access.mark)
                if ours and str(one.id).lower() not in {entry.lower() for entry in used}:
                    self._account.apps.certificates.delete(group, environment, one.name)

        self._account.patiently(drop, "the old service certificates", self._progress)


def register_providers(account: AzureAccount, progress: Progress) -> None:
    """Register the resource providers that a cloud point needs, where they are not.

    Raises:
        ForbiddenError: the application may not; an administrator of the subscription does it once.
        UnavailableError: Azure takes too long.
    """
    waiting = []
    for namespace in PROVIDERS:
        progress(f"Looking at the resource provider {namespace}")
        with azure_errors(f"the resource provider {namespace}"):
            if account.resources.providers.get(namespace).registration_state != "Registered":
                progress(f"Registering the resource provider {namespace}")
                account.resources.providers.register(namespace)
                waiting.append(namespace)
    deadline = time.monotonic() + _REGISTER_SECONDS
    for namespace in waiting:
        with azure_errors(f"the resource provider {namespace}"):
            while account.resources.providers.get(namespace).registration_state != "Registered":
                if time.monotonic() > deadline:
                    raise UnavailableError(f"Azure has not registered {namespace} yet.", next_step="It is tried again.")
                account.pause(
                    min(5.0, account.access.polling), f"Waiting for the resource provider {namespace}", progress
                )


def _domains(app: Any) -> list[dict[str, str]]:
    """The names that are bound now."""
    domains = app.properties.configuration.ingress.custom_domains or ()
    return [
        {"name": str(one.name), "bindingType": str(one.binding_type), "certificateId": str(one.certificate_id)}
        for one in domains
    ]
