"""The management API (``protocol.cloudhost``), plain ASGI: a table of routes, one method each.

Every request but the token endpoint's needs an access token, and reaches only its own subscription: another one does
not exist for it. Every order for a service is written to the audit log, refused ones too. What a request wants is
durable before it is answered; *stop* is answered when the last instance is gone, *delete* when it was checked what is
left.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from entrepot.cloud.host.audit import UNKNOWN, AuditLog
from entrepot.cloud.host.identity import Standing
from entrepot.cloud.host.services import ServiceRow, Services, Wanted
from entrepot.cloud.host.settings import HostSettings
from entrepot.cloud.host.specification import check_spec
from entrepot.cloud.host.storage import store_settings
from entrepot.cloud.host.stores import StoreEndpoints
from entrepot.cloud.host.subscriptions import ACTIVE, Caller, Subscriptions
from entrepot.cloud.host.supervisor import Supervisor
from entrepot.cloud.host.tokens import TokenEndpoint
from entrepot.cloud.oauth import MAX_FORM, TOKEN_PATH
from entrepot.core.addresses import parse_ports
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, EntrepotError, ForbiddenError, FormatError, NotFoundError
from entrepot.core.ids import service_name
from entrepot.core.times import Clock
from entrepot.objects.settings import gives_links
from entrepot.protocol.cloudhost import Scale, ServiceSpec, ServiceStatus, Subscription
from entrepot.trust.inspection import load_cer, thumbprint
from entrepot.web.asgi import Receive, Scope, Send, query, read_body, send_json, send_problem
from entrepot.web.bearer import bearer_token

MAX_BODY: Final = 256 * 1024
_ACCOUNT: Final = re.compile(r"/subscriptions/(?P<subscription>[^/]+)(?P<rest>/.*)?")
_SERVICE: Final = re.compile(r"/services/(?P<name>[^/]+)(?P<action>/[^/]+)?(?P<path>/.*)?")
_ALLOWED: Final = {"": "GET, HEAD, PUT, DELETE", "/start": "POST", "/stop": "POST", "/scale": "POST"}
_NO_STORE: Final = [(b"cache-control", b"no-store")]
_log = structlog.get_logger("entrepot.host")
T = TypeVar("T")


class ManagementApi:
    """The ASGI application of a cloud host."""

    def __init__(
        self,
        *,
        settings: HostSettings,
        subscriptions: Subscriptions,
        services: Services,
        tokens: TokenEndpoint,
        stores: StoreEndpoints,
        supervisor: Supervisor,
        audit: AuditLog,
        identity: Callable[[], Standing],
        public_host: str,
        clock: Clock,
    ) -> None:
        self._settings, self._subscriptions, self._services = settings, subscriptions, services
        self._tokens, self._stores, self._supervisor, self._audit = tokens, stores, supervisor, audit
        self._public_host, self._clock, self._identity = public_host, clock, identity
        self._knowing: set[tuple[str, str, str]] = set()  # subscription, certificate, next pin: each is noted once
        self._refusal_noted, self._refusals_unnoted = 0.0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise BadInputError("Only HTTP is spoken here.")
        try:
            await self._route(scope["method"], scope["path"], scope, receive, send)
        except EntrepotError as error:
            await send_problem(send, error, head=scope["method"] == "HEAD")

    async def _route(self, method: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/healthz" and method in ("GET", "HEAD"):
            return await send_json(send, b'{"status":"ok"}', headers=_NO_STORE)
        if path == TOKEN_PATH and method == "POST":
            return await self._token(await read_body(scope, receive, MAX_FORM), send)
        matched = _ACCOUNT.fullmatch(path)
        token = bearer_token(scope)
        caller = await asyncio.to_thread(self._subscriptions.caller, token, now=self._clock())
        if matched is None or matched["subscription"] != caller.subscription.id:
            raise NotFoundError("There is no such subscription.")
        if caller.subscription.state != ACTIVE:
            raise ForbiddenError(
                f"The subscription {caller.subscription.name!r} is disabled.",
                next_step="Ask the cloud host's administrator to enable it.",
            )
        rest = (matched["rest"] or "/").rstrip("/")
        if rest in ("", "/services"):
            knows = query(scope, "knows").get("knows", "")
            return await self._account(method, rest, caller, knows, send)
        service = _SERVICE.fullmatch(matched["rest"] or "")
        if service is None:
            raise NotFoundError(f"There is nothing at {path[:200]!r}.")
        name = service_name(service["name"])
        if service["action"] == "/store":
            row = await self._find(caller, name)
            return await self._stores.serve(row, service["path"] or "/", scope, receive, send)
        if service["path"]:
            raise NotFoundError(f"There is nothing at {path[:200]!r}.")
        body = await read_body(scope, receive, MAX_BODY)
        return await self._service(method, service["action"] or "", caller, name, body, send)

    async def _token(self, form: bytes, send: Send) -> None:
        try:
            subscription, access = await asyncio.to_thread(self._tokens.give, form, now=self._clock())
        except EntrepotError as error:
            await self._note_refusal(error)
            raise
        await self._note("token.give", subscription, subscription)
        await send_json(send, to_json(access), headers=_NO_STORE)

    async def _account(self, method: str, rest: str, caller: Caller, knows: str, send: Send) -> None:
        if method not in ("GET", "HEAD"):
            return await _other_method(send, "GET, HEAD")
        if rest:
            rows = await asyncio.to_thread(self._services.all, caller.subscription.id)
            found = [await self._status(row) for row in rows]
            return await send_json(send, to_json(found), headers=_NO_STORE)
        account, identity = caller.subscription, self._identity()
        rotation = identity.rotation
        if rotation is not None and knows == rotation.pin:
            await self._note_pin(caller, rotation.pin)
        answer = Subscription(
            id=account.id,
            name=account.name,
            state=account.state,
            region=self._settings.region,
            storage_quota=account.storage_quota,
            instance_quota=account.instance_quota,
            certificate_expires=caller.certificate_expires,
            time=int(self._clock()),
            redirects=gives_links(self._settings.store),
            pin=identity.pin,
            next_pin="" if rotation is None else rotation.pin,
            next_pin_from=0 if rotation is None else rotation.due,
        )
        return await send_json(send, to_json(answer), headers=_NO_STORE)

    async def _note_pin(self, caller: Caller, pin: str) -> None:
        one = (caller.subscription.id, caller.thumbprint, pin)
        if one not in self._knowing:
            await asyncio.to_thread(self._subscriptions.note_pin, caller, pin, now=self._clock())
            self._knowing.add(one)

    async def _service(self, method: str, action: str, caller: Caller, name: str, body: bytes, send: Send) -> None:
        """One service's routes."""
        match method, action:
            case "GET" | "HEAD", "":
                status = await self._status(await self._find(caller, name))
            case "PUT", "":
                status = await self._audited("service.put", caller, name, lambda: self._put(caller, name, body))
            case "POST", "/start":
                status = await self._audited("service.start", caller, name, lambda: self._start(caller, name))
            case "POST", "/stop":
                status = await self._audited("service.stop", caller, name, lambda: self._stop(caller, name))
            case "POST", "/scale":
                status = await self._audited("service.scale", caller, name, lambda: self._scale(caller, name, body))
            case "DELETE", "":
                remains = await self._audited("service.delete", caller, name, lambda: self._delete(caller, name))
                return await send_json(send, remains, headers=_NO_STORE)
            case _:
                if action not in _ALLOWED:
                    raise NotFoundError(f"There is nothing at {action!r} of a service.")
                return await _other_method(send, _ALLOWED[action])
        return await send_json(send, to_json(status), headers=_NO_STORE)

    async def _put(self, caller: Caller, name: str, body: bytes) -> ServiceStatus:
        spec = _decode(body, ServiceSpec)
        expires = check_spec(spec, now=self._clock())
        subscription = caller.subscription.id
        await self._stores.check_new(subscription, name)
        if await asyncio.to_thread(self._services.takes_port, subscription, name, spec.port):
            self._check_port(spec.port)
            await self._supervisor.try_port(spec.port)
        row = await asyncio.to_thread(self._services.put, subscription, name, spec, expires=expires, now=self._clock())
        return await self._converged(row)

    def _check_port(self, port: int) -> None:
        """Refuse a port that no new service may have."""
        allowed = self._settings.service_ports
        if not any(port in ports for ports in parse_ports(allowed)):
            raise ForbiddenError(
                f"Services of this cloud host may have the ports {allowed}, not {port}.",
                next_step="Ask for one of those, leave the choice to the host (port 0), or let its administrator allow"
                " it: service_ports in host.toml.",
            )

    async def _start(self, caller: Caller, name: str) -> ServiceStatus:
        row = await asyncio.to_thread(self._services.set_state, caller.subscription.id, name, Wanted.RUNNING)
        return await self._converged(row)

    async def _stop(self, caller: Caller, name: str) -> ServiceStatus:
        row = await asyncio.to_thread(self._services.set_state, caller.subscription.id, name, Wanted.STOPPED)
        await self._supervisor.runner(row.id).stop()
        return await self._status(row)

    async def _scale(self, caller: Caller, name: str, body: bytes) -> ServiceStatus:
        instances = _decode(body, Scale).instances
        row = await asyncio.to_thread(self._services.scale, caller.subscription.id, name, instances)
        return await self._converged(row)

    async def _delete(self, caller: Caller, name: str) -> bytes:
        row = await asyncio.to_thread(self._services.set_state, caller.subscription.id, name, Wanted.DELETING)
        # Going on when the caller leaves: a deletion is never half wanted.
        return to_json(await asyncio.shield(asyncio.ensure_future(self._supervisor.delete(row))))

    async def _converged(self, row: ServiceRow) -> ServiceStatus:
        """One step towards what is wanted; the supervisor takes the rest."""
        await self._supervisor.runner(row.id).converge()
        return await self._status(await self._row(row))

    async def _row(self, row: ServiceRow) -> ServiceRow:
        return await asyncio.to_thread(self._services.find, row.subscription, row.name)

    async def _find(self, caller: Caller, name: str) -> ServiceRow:
        return await asyncio.to_thread(self._services.find, caller.subscription.id, name)

    async def _status(self, row: ServiceRow) -> ServiceStatus:
        runner = self._supervisor.runner(row.id)
        usage = await self._stores.usage(row)
        return ServiceStatus(
            name=row.name,
            point=row.point,
            fqdn=row.fqdn,
            state=runner.state(row),
            address=f"{self._public_host}:{runner.port or row.port}",
            wanted=row.instances,
            instances=runner.instances(),
            stored_bytes=usage.stored,
            stored_objects=usage.objects,
            certificate_expires=row.certificate_expires,
            certificate_thumbprint=thumbprint(load_cer(row.certificate.encode())).hex(),
            root=row.root,
            redirects=gives_links(store_settings(row)),
        )

    async def _audited(self, action: str, caller: Caller, name: str, work: Callable[[], Awaitable[T]]) -> T:
        actor = f"{caller.subscription.id} {caller.thumbprint[:16]}"
        try:
            result = await work()
        except EntrepotError as error:
            await self._note(action, actor, name, outcome=error.code, problem=error.message)
            raise
        await self._note(action, actor, name)
        return result

    async def _note_refusal(self, error: EntrepotError) -> None:
        """Audit a refused token request. Anyone can make them, so one line a second must do: it counts the others."""
        now = self._clock()
        if 0 <= now - self._refusal_noted < 1.0:
            self._refusals_unnoted += 1
            return
        unnoted, self._refusals_unnoted, self._refusal_noted = self._refusals_unnoted, 0, now
        problem = f"{error.message} {unnoted} more before." if unnoted else error.message
        await self._note("token.give", UNKNOWN, "", outcome=error.code, problem=problem)

    async def _note(self, action: str, actor: str, subject: str, *, outcome: str = "done", **details: str) -> None:
        def note() -> None:
            self._audit.note(action, actor=actor, subject=subject, outcome=outcome, **details)

        await asyncio.to_thread(note)


async def _other_method(send: Send, allowed: str) -> None:
    error = BadInputError("This address does not take that method.", next_step=f"Use one of these: {allowed}.")
    await send_problem(send, error, status=405, headers=[(b"allow", allowed.encode())])


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return from_json(body, kind, "request")
    except FormatError as error:
        raise BadInputError(error.message) from None
