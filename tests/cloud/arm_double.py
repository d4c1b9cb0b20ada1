"""Azure Resource Manager, Entra ID's token endpoint and Azure Monitor, as far as a cloud point needs them: a real HTTPS
server that checks what it is sent and answers with ARM's codes, long-running operations, throttling and conflicts.

It stands for Azure only where its answers were taken from Azure's published specifications; ``docs/azure.md`` says so.
"""

import base64
import contextlib
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import pkcs12

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
TENANT = "99999999-8888-7777-6666-555555555555"
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SITE_PRINCIPAL = "51515151-0000-0000-0000-000000000001"
APP_PRINCIPAL = "51515151-0000-0000-0000-000000000002"
VERSIONS = {
    "subscription": "2022-12-01",
    "resources": "2025-04-01",
    "Microsoft.Storage": "2026-09-01",
    "Microsoft.App": "2026-07-01",
    "Microsoft.Authorization": "2022-04-01",
    "Microsoft.Insights": "2024-02-01",
}
Answer = tuple[int, dict[str, str], Any]
_SECRETS = re.compile(r"/(listKeys|listSecrets)$", re.IGNORECASE)


class Refusal(Exception):  # noqa: N818  # an answer, not a failure of the double
    """An error in ARM's form."""

    def __init__(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        self.status, self.code, self.message, self.headers = status, code, message or code, headers or {}


FIGURES = {"UsedCapacity": [4096.0, 5000.0], "BlobCount": [7.0], "TxBytes": [100.0, 23.0], "Egress": [400.0, 1.0]}


class ArmDouble:
    """Start it, read ``url`` and ``ca``; ``refusals`` are used up one by one by requests that match."""

    def __init__(self, folder: Path, authority: Any, certificate: x509.Certificate) -> None:
        from entrepot.trust.authority import new_tls_key
        from entrepot.trust.inspection import key_pem, to_pem

        key = new_tls_key()
        now = datetime.now(UTC).timestamp()
        issued = authority.issue_server(key.public_key(), names=["localhost"], now=now)
        (folder / "arm.crt").write_text(to_pem(issued, authority.certificate))
        (folder / "arm.key").write_bytes(key_pem(key).reveal())
        self.ca = str(folder / "arm-ca.pem")
        Path(self.ca).write_text(authority.pem())
        self.certificate = certificate
        self.things: dict[str, dict[str, Any]] = {}
        self.figures: dict[str, list[float]] = dict(FIGURES)
        self.polls: dict[str, int] = {}
        self.lasting = 0  # operations that are begun from now on last until so many others were refused for them
        self.held: dict[str, int] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.things_of: dict[str, str] = {}
        self.registered = {"Microsoft.Storage", "Microsoft.Insights"}
        self.dns_proven = False
        self.refusals: list[tuple[str, Refusal]] = []
        self.failing: dict[str, str] = {}  # long-running operations that are begun and fail: of what, and Azure's code
        self.log: list[tuple[str, str]] = []
        self.bodies: list[tuple[str, str, Any]] = []
        self.problems: list[str] = []
        self.die_after = -1
        self.taken_names: set[str] = set()
        self.unknown_principals = 1
        self.subscription_state = "Enabled"
        self.lock = threading.RLock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "arm.crt", folder / "arm.key")
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def connections(self) -> int:
        """How many there were."""
        return self.server.connections

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # -- requests

    def forget(self) -> None:
        """Begin anew: nothing is there, and nothing is on its way."""
        with self.lock:
            for kept in (self.things, self.things_of, self.polls, self.held, self.after):
                kept.clear()

    def occupy(self, part: str, refusing: int) -> None:
        """Somebody else, a person in the portal for example, has begun an operation on what is called so; it lasts
        until so many others were refused."""
        with self.lock:
            key = next(name for name in self.things if name.endswith(part.lower()))
            begun = f"/operations/{len(self.after)}"
            self._later(key, self.things[key], 202, "Location")
            self.held[begun] = refusing

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        split = urllib.parse.urlsplit(target)
        path, query = urllib.parse.unquote(split.path), urllib.parse.parse_qs(split.query)
        with self.lock:
            self.log.append((method, path))
            if self.die_after == 0:
                raise ConnectionAbortedError
            self.die_after -= self.die_after > 0
            try:
                for index, (pattern, refusal) in enumerate(self.refusals):
                    if re.search(pattern, f"{method} {path}"):
                        del self.refusals[index]
                        raise refusal
                if "/oauth2/" in path or "/.well-known/" in path:
                    return self._token_endpoint(method, path, body)
                self._check_bearer(headers)
                return self._resource(method, path, query, json.loads(body) if body else None)
            except Refusal as refusal:
                error = {"error": {"code": refusal.code, "message": refusal.message}}
                return refusal.status, refusal.headers, error

    def problem(self, text: str) -> None:
        self.problems.append(text)

    # -- Entra ID

    def _token_endpoint(self, method: str, path: str, body: bytes) -> Answer:
        base = f"{self.url}/{TENANT}"
        if "/.well-known/" in path:
            return (
                200,
                {},
                {
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "issuer": f"{base}/v2.0",
                },
            )
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode()).items()}
        wrong = self._assertion_problem(form, f"{base}/oauth2/v2.0/token")
        if wrong:
            self.problem(wrong)
            return 401, {}, {"error": "invalid_client", "error_description": f"AADSTS700027: {wrong}"}
        claims = {"oid": SITE_PRINCIPAL, "aud": form["scope"], "exp": 4_000_000_000}
        part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return 200, {}, {"token_type": "Bearer", "expires_in": 3599, "access_token": f"e30.{part}.c2ln"}

    def _assertion_problem(self, form: dict[str, str], audience: str) -> str:
        if form.get("client_id") != APPLICATION or form.get("grant_type") != "client_credentials":
            return "wrong client or grant"
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return "no client assertion"
        head, payload, signature = form["client_assertion"].split(".")
        header, claims = json.loads(_b64(head)), json.loads(_b64(payload))
        if header["alg"] not in ("RS256", "PS256"):
            return f"alg {header['alg']}"
        pad: Any = padding.PKCS1v15() if header["alg"] == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key: Any = self.certificate.public_key()
        try:
            key.verify(_b64(signature), f"{head}.{payload}".encode(), pad, hashes.SHA256())
        except Exception as error:  # noqa: BLE001  # any failure is a refusal
            return f"signature {error!r}"
        if claims["iss"] != APPLICATION or claims["sub"] != APPLICATION or claims["aud"] != audience:
            return f"claims {claims}"
        if claims["exp"] - datetime.now(UTC).timestamp() > 700 or not claims["jti"]:
            return "lifetime or jti"  # the SDK sends an assertion again while it lasts, so Entra ID takes it again
        if form["scope"] not in (f"{self.url}/.default", "https://storage.azure.com/.default"):
            return f"scope {form['scope']}"
        return ""

    def _check_bearer(self, headers: dict[str, str]) -> None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            claims = json.loads(_b64(token.split(".")[1]))
        except (IndexError, ValueError):
            raise Refusal(401, "AuthenticationFailed") from None
        if claims["aud"] != f"{self.url}/.default":
            raise Refusal(401, "InvalidAuthenticationTokenAudience")

    # -- ARM

    def _resource(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        if path.startswith("/operations/"):
            return self._operation(path)
        version = query.get("api-version", [""])[0]
        self._check_version(path, version)
        if _SECRETS.search(path):
            self.problem(f"asked for keys: {path}")
        if body is not None:
            self.bodies.append((method, path, json.loads(json.dumps(body))))
        base = f"/subscriptions/{SUBSCRIPTION}"
        if not path.lower().startswith(base):
            raise Refusal(404, "SubscriptionNotFound")
        rest = path[len(base) :]
        if rest in ("/resources", "/resourcegroups"):
            return self._tagged(rest, query["$filter"][0])
        return self._below(method, path, rest, query, body)

    def _below(self, method: str, path: str, rest: str, query: dict[str, list[str]], body: Any) -> Answer:
        """The subscription and what is in it."""
        if not rest:
            return 200, {}, {"subscriptionId": SUBSCRIPTION, "displayName": "Contoso", "state": self.subscription_state}
        if match := re.fullmatch(r"/providers/([\w.]+)(/register)?", rest):
            if match[2]:
                self.registered.add(match[1])
            state = "Registered" if match[1] in self.registered else "NotRegistered"
            return 200, {}, {"namespace": match[1], "registrationState": state}
        if rest.endswith("/checkNameAvailability"):
            if "Microsoft.Storage" not in self.registered:
                raise Refusal(409, "MissingSubscriptionRegistration")
            free = body["name"] not in self.taken_names and not any(
                one["name"] == body["name"] for one in self.things.values()
            )
            return 200, {}, {"nameAvailable": free, "reason": None if free else "AlreadyExists", "message": ""}
        if rest.endswith("/providers/Microsoft.App/containerApps"):
            return (
                200,
                {},
                {
                    "value": [
                        one for key, one in self.things.items() if "/containerapps/" in key and key.count("/") == 8
                    ]
                },
            )
        if "/microsoft.insights/metrics" in rest.lower():
            return self._metrics(rest, query)
        if "/roleAssignments/" in rest:
            return self._role(path, body)
        return self._thing(method, path, body)

    def _check_version(self, path: str, version: str) -> None:
        found = [name for name in VERSIONS if f"/providers/{name}/".lower() in path.lower() + "/"]
        kind = found[-1] if found else "resources"
        if path.lower() == f"/subscriptions/{SUBSCRIPTION}":
            kind = "subscription"
        if re.search(r"/subscriptions/[^/]+/providers/[\w.]+(/register)?$", path):
            kind = "resources"
        if kind != "Microsoft.Insights" and version != VERSIONS[kind]:
            self.problem(f"api-version {version} of {path}")
        if not version:
            raise Refusal(400, "MissingApiVersionParameter")

    def _role(self, path: str, body: Any) -> Answer:
        properties = body["properties"]
        principal = properties["principalId"]
        if properties.get("principalType") != "ServicePrincipal":
            self.problem("role without principalType")
        if not properties["roleDefinitionId"].endswith("ba92f5b4-2d11-453d-a403-e96b0029c9fe"):
            self.problem("another role")
        if principal == APP_PRINCIPAL and self.unknown_principals:
            self.unknown_principals -= 1
            raise Refusal(400, "PrincipalNotFound", "Principal does not exist in the directory.")
        if path.lower() in self.things:
            raise Refusal(409, "RoleAssignmentExists", "The role assignment already exists.")
        self.things[path.lower()] = {"id": path, "name": path.rsplit("/", 1)[1], "properties": properties}
        return 201, {}, self.things[path.lower()]

    def _metrics(self, rest: str, query: dict[str, list[str]]) -> Answer:
        metric, kind = query["metricnames"][0], query["aggregation"][0].lower()
        if not re.fullmatch(r"[\dT:Z-]+/[\dT:Z-]+", query["timespan"][0]):
            self.problem(f"timespan {query['timespan']}")
        values = self.figures[metric]
        data = [{"timeStamp": f"2026-11-23T{hour:02}:00:00Z", kind: value} for hour, value in enumerate(values)]
        data.append({"timeStamp": "2026-11-23T09:00:00Z"})
        kind = "Microsoft.Insights/metrics"
        series = [{"metadatavalues": [], "data": data}]
        name = {"value": metric, "localizedValue": metric}
        return (
            200,
            {},
            {
                "timespan": query["timespan"][0],
                "interval": "PT1H",
                "value": [
                    {
                        "id": rest,
                        "type": "Microsoft.Insights/metrics",
                        "name": name,
                        "unit": "Bytes",
                        "timeseries": series,
                    }
                ],
            },
        )

    def _thing(self, method: str, path: str, body: Any) -> Answer:
        key = path.lower().rstrip("/")
        parts = key.split("/")
        turned = method == "POST" and parts[-1] in ("stop", "start")
        if method not in ("GET", "HEAD"):
            self._check_idle(key.rpartition("/")[0] if turned else key)
        if turned:
            return self._turn(key.rpartition("/")[0], parts[-1])
        if parts[-1] in ("certificates", "storageaccounts", "managedenvironments", "containerapps", "resources"):
            return self._list(key, parts[-1])
        if parts[-1] == "replicas":
            return self._replicas(parts)
        if method == "HEAD":
            return (204, {}, None) if key in self.things else (404, {}, None)
        if method == "GET":
            if key not in self.things:
                raise Refusal(404, "ResourceGroupNotFound" if len(parts) == 5 else "ResourceNotFound")
            answer = self.things[key]
            self._time_passes(key)
            return 200, {}, answer
        if method == "DELETE":
            return self._delete(key)
        if method == "PATCH":
            return self._patch(key, body)
        return self._put(key, path, body)

    def _list(self, key: str, kind: str) -> Answer:
        group = _group(key)
        if group not in self.things:
            raise Refusal(404, "ResourceGroupNotFound")
        if kind == "resources":
            inside = [
                one
                for name, one in self.things.items()
                if name.startswith(group + "/providers/") and name.count("/") == 8
            ]
        else:
            inside = [one for name, one in self.things.items() if name.rpartition("/")[0] == key]
        return 200, {}, {"value": inside}

    def _tagged(self, rest: str, condition: str) -> Answer:
        match = re.fullmatch(r"tagName eq '([\w-]+)' and tagValue eq '(\w+)'", condition)
        if match is None:
            raise Refusal(400, "InvalidFilterInQueryString")
        slashes = 4 if rest == "/resourcegroups" else 8
        found = [
            {**one, "type": "/".join(key.split("/")[6:8]) if slashes == 8 else "Microsoft.Resources/resourceGroups"}
            for key, one in self.things.items()
            if key.count("/") == slashes and (one.get("tags") or {}).get(match[1]) == match[2]
        ]
        return 200, {}, {"value": found}

    def _replicas(self, parts: list[str]) -> Answer:
        app = self.things.get("/".join(parts[:9]))
        if app is None:
            raise Refusal(404, "ResourceNotFound")
        count = app["properties"]["template"]["scale"]["minReplicas"]
        running = app["properties"]["runningStatus"] == "Running"
        return (
            200,
            {},
            {
                "value": [
                    {
                        "name": f"{app['name']}--r-{index}",
                        "properties": {
                            "createdTime": "2026-11-23T00:00:00Z",
                            "runningState": "Running",
                            "containers": [{"name": "gateway", "ready": True, "started": True, "restartCount": 0}],
                        },
                    }
                    for index in range(count if running else 0)
                ]
            },
        )

    def _put(self, key: str, path: str, body: Any) -> Answer:
        parts = key.split("/")
        if len(parts) > 5 and _group(key) not in self.things:
            raise Refusal(404, "ResourceGroupNotFound")
        fresh = key not in self.things
        thing = {**body, "id": path, "name": path.rsplit("/", 1)[1]}
        thing["properties"] = {**(body.get("properties") or {}), "provisioningState": "Succeeded"}
        if len(parts) == 5:
            self.things[key] = thing
            return (201 if fresh else 200), {}, thing
        kind = parts[-2]
        handler = {
            "storageaccounts": self._put_storage,
            "containers": self._put_container,
            "managedenvironments": self._put_environment,
            "certificates": self._put_certificate,
            "containerapps": self._put_app,
        }[kind]
        return handler(key, thing, fresh)

    def _put_storage(self, key: str, thing: Any, fresh: bool) -> Answer:
        wanted = thing["properties"]
        for name, value in (
            ("allowSharedKeyAccess", False),
            ("allowBlobPublicAccess", False),
            ("minimumTlsVersion", "TLS1_2"),
        ):
            if wanted.get(name) is not value and wanted.get(name) != value:
                self.problem(f"storage {name}: {wanted.get(name)}")
        if len(thing["name"]) > 24 or not re.fullmatch("[a-z0-9]+", thing["name"]):
            raise Refusal(400, "AccountNameInvalid")
        wanted["primaryEndpoints"] = {"blob": f"https://{thing['name']}.blob.core.windows.net/"}
        if not fresh:
            self.things[key] = thing
            return 200, {}, thing
        # Storage answers 202 with Location only, and the account at that address in the end.
        return self._later(key, thing, 202, "Location")

    def _put_container(self, key: str, thing: Any, fresh: bool) -> Answer:
        if thing["properties"].get("publicAccess") != "None":
            self.problem("public container")
        self.things[key] = thing
        return (201 if fresh else 200), {}, thing

    def _put_environment(self, key: str, thing: Any, fresh: bool) -> Answer:
        if "Microsoft.App" not in self.registered:
            raise Refusal(409, "MissingSubscriptionRegistration")
        if not thing["properties"]["peerTrafficConfiguration"]["encryption"]["enabled"]:
            self.problem("no encryption between peers")
        return self._later(key, thing, 201 if fresh else 200, "Azure-AsyncOperation")

    def _put_certificate(self, key: str, thing: Any, fresh: bool) -> Answer:
        properties = thing["properties"]
        loaded = pkcs12.load_pkcs12(base64.b64decode(properties.pop("value")), properties.pop("password").encode())
        leaf = loaded.cert.certificate  # type: ignore[union-attr]  # it has one, or the double fails
        properties["thumbprint"] = leaf.fingerprint(hashes.SHA1()).hex().upper()  # as Azure tells it
        properties["expirationDate"] = leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        properties["valid"] = True
        self.things[key] = thing
        return 200, {}, thing

    def _put_app(self, key: str, thing: Any, fresh: bool) -> Answer:
        properties = thing["properties"]
        if properties["environmentId"].lower() not in self.things:
            raise Refusal(404, "ManagedEnvironmentNotFound")
        ingress = properties["configuration"]["ingress"]
        for domain in ingress["customDomains"]:
            if not self.dns_proven:
                raise Refusal(400, "InvalidCustomHostNameValidation", "A TXT record asuid was not found.")
            if domain["certificateId"].lower() not in self.things:
                raise Refusal(400, "CertificateNotFound")
        json.loads(properties["configuration"]["secrets"][0]["value"])
        ingress["fqdn"] = f"{thing['name']}.happy.westeurope.azurecontainerapps.io"
        before = self.things.get(key)
        stopped = before is not None and before["properties"]["runningStatus"] == "Stopped"
        properties |= {
            "customDomainVerificationId": "PROOF",
            "latestReadyRevisionName": f"{thing['name']}--r",
            "latestRevisionName": f"{thing['name']}--r",
            "runningStatus": "Stopped" if stopped else "Running",
        }
        thing["identity"] = {"type": "SystemAssigned", "principalId": APP_PRINCIPAL, "tenantId": TENANT}
        properties["configuration"]["secrets"] = [
            {"name": one["name"]} for one in properties["configuration"]["secrets"]
        ]
        return self._later(key, thing, 201 if fresh else 200, "Azure-AsyncOperation")

    def _patch(self, key: str, body: Any) -> Answer:
        if key not in self.things:
            raise Refusal(404, "ResourceNotFound")
        thing = self.things[key]
        thing["properties"]["template"]["scale"] = body["properties"]["template"]["scale"]
        return self._later(key, thing, 202, "Location")

    def _turn(self, key: str, verb: str) -> Answer:
        if key not in self.things:
            raise Refusal(404, "ResourceNotFound")
        before = self.things[key]["properties"]
        turned = {**before, "runningStatus": "Stopped" if verb == "stop" else "Running"}
        answer = self._later(key, {**self.things[key], "properties": turned}, 202, "Location")
        self.things[key]["properties"]["runningStatus"] = before["runningStatus"]  # until the operation has ended
        return answer

    def _delete(self, key: str) -> Answer:
        if key not in self.things:
            return 204, {}, None
        users = [one for one in self.things.values() if one["properties"].get("environmentId", "").lower() == key]
        if users:
            raise Refusal(409, "ManagedEnvironmentInUse", "It has container apps.")
        doomed = [name for name in self.things if name == key or name.startswith(key + "/")]
        direct = "/storageaccounts/" in key or "/certificates/" in key
        if direct:
            for name in doomed:
                del self.things[name]
            return 200, {}, None
        operation = self._operation_of(key)
        self.after[operation] = lambda: [self.things.pop(name, None) for name in doomed] and None
        return 202, {"Location": f"{self.url}{operation}?api-version=1", "Retry-After": "0"}, None

    def _later(self, key: str, thing: Any, status: int, header: str) -> Answer:
        """A long-running operation of two polls; the thing is there at once, but not yet ``Succeeded``."""
        operation = self._operation_of(key)
        self.things[key] = {**thing, "properties": {**thing["properties"], "provisioningState": "InProgress"}}

        def finish() -> None:
            self.things[key] = thing

        self.after[operation] = finish
        headers = {header: f"{self.url}{operation}?api-version=1&for={key}", "Retry-After": "0"}
        return status, headers, self.things[key] if status != 202 else None

    def _operation_of(self, key: str) -> str:
        operation = f"/operations/{len(self.after)}{'/location' if 'storageaccounts' in key else ''}"
        self.polls[operation] = 2
        self.held[operation] = self.lasting
        self.things_of[operation] = key
        return operation

    def _check_idle(self, key: str) -> None:
        """One operation at a time on each resource; nothing is made in a group that is being deleted."""
        for code, of in (("ContainerAppOperationInProgress", key), ("ResourceGroupBeingDeleted", _group(key))):
            busy = [one for one, left in self.polls.items() if self.things_of[one] == of and left > 0]
            if busy:
                self._time_passes(of)
                self.held |= {one: self.held[one] - 1 for one in busy}
                raise Refusal(409, code, "Another operation is in progress.")

    def _time_passes(self, key: str) -> None:
        """Operations go on whether somebody asks for them or not: whoever started one may be dead."""
        for operation, of in self.things_of.items():
            if of == key and self.polls[operation] > 0 >= self.held[operation]:
                self.polls[operation] -= 1
                if self.polls[operation] == 0:
                    self.after[operation]()

    def _operation(self, path: str) -> Answer:
        self.polls[path] -= self.held[path] <= 0
        if self.polls[path] > 0:
            return 202, {"Location": f"{self.url}{path}?api-version=1", "Retry-After": "0"}, {"status": "InProgress"}
        if self.polls[path] == 0:
            self.after[path]()
        thing = self.things.get(self.things_of[path])
        for pattern, code in self.failing.items():
            if thing and re.search(pattern, self.things_of[path]):
                thing["properties"]["provisioningState"] = "Failed"
                return 200, {}, {"status": "Failed", "error": {"code": code, "message": "Azure's words."}}
        return 200, {}, {"status": "Succeeded", **(thing or {})}


def _group(key: str) -> str:
    """The resource group that something lies in."""
    return "/".join(key.split("/")[:5])


def _b64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class _Server(ThreadingHTTPServer):
    connections = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no failure of the double."""


def _handler(double: ArmDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each body waits 40 ms for its headers to be acknowledged

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, more, answer = double.answer(self.command, self.path, headers, body)
            except ConnectionAbortedError:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.close()
                return
            data = b"" if answer is None or self.command == "HEAD" else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            """Quiet."""

    return Handler
