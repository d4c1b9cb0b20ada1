"""What is asked of Container Apps, as ARM bodies. Pure: no SDK is needed to read it."""

import base64
from typing import Any, Final

from entrepot.core.encoding import to_json
from entrepot.protocol.cloudapi import AzureOptions
from entrepot.protocol.cloudhost import ServiceSpec

PORT: Final = 8080
CONFIG_SECRET: Final = "gateway"
PASSWORD_SECRET: Final = "registry-password"  # a name
CONFIG_PATH: Final = "/etc/entrepot"
STATE_PATH: Final = "/var/lib/entrepot"
GRACE_SECONDS: Final = 300
"""So long Azure lets a replica that goes end by itself before it is killed."""
DRAIN_SECONDS: Final = GRACE_SECONDS - 20
"""Of these a gateway gives so many to running downloads; the rest is for handing its records over."""


def environment(region: str, tags: dict[str, str]) -> dict[str, Any]:
    """A Container Apps environment that is paid for by use; what its parts say to each other is encrypted."""
    return {
        "location": region,
        "tags": tags,
        "properties": {
            "workloadProfiles": [{"name": "Consumption", "workloadProfileType": "Consumption"}],
            "peerTrafficConfiguration": {"encryption": {"enabled": True}},
            "zoneRedundant": False,
        },
    }


def certificate(region: str, tags: dict[str, str], pfx: bytes, password: str) -> dict[str, Any]:
    """The service certificate for the environment."""
    return {
        "location": region,
        "tags": tags,
        "properties": {"value": base64.b64encode(pfx).decode(), "password": password},
    }


def gateway_config(service: str, spec: ServiceSpec, storage: str, endpoint: str) -> dict[str, Any]:
    """The gateways' configuration file (``cloud.gateway.config``): Azure ends TLS, the managed identity opens the
    store."""
    return {
        "instance": service,
        "point": spec.point,
        "root": base64.b64encode(spec.root).decode(),
        "remote": {"kind": "azure", "account": storage, "bucket": "entrepot", "endpoint": endpoint},
        "state": STATE_PATH,
        "certificate": "",
        "private_key": "",
        "front": True,
        "listen": f"0.0.0.0:{PORT}",
        "drain_seconds": float(DRAIN_SECONDS),
    }


def app(
    *,
    region: str,
    tags: dict[str, str],
    environment_id: str,
    options: AzureOptions,
    config: dict[str, Any],
    instances: int,
    domains: list[dict[str, str]],
) -> dict[str, Any]:
    """The container app: ``instances`` replicas of the gateway behind HTTPS ingress."""
    secrets = [{"name": CONFIG_SECRET, "value": to_json(config).decode()}]
    registries: list[dict[str, str]] = []
    if options.registry_user:
        secrets.append({"name": PASSWORD_SECRET, "value": options.registry_password})
        server = options.image.partition("/")[0]
        registries.append({"server": server, "username": options.registry_user, "passwordSecretRef": PASSWORD_SECRET})
    return {
        "location": region,
        "tags": tags,
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "environmentId": environment_id,
            "workloadProfileName": "Consumption",
            "configuration": {
                "activeRevisionsMode": "Single",
                "secrets": secrets,
                "registries": registries,
                "ingress": {
                    "external": True,
                    "targetPort": PORT,
                    "transport": "http",
                    "allowInsecure": False,
                    "customDomains": domains,
                },
            },
            "template": _template(options, instances),
        },
    }


def _template(options: AzureOptions, instances: int) -> dict[str, Any]:
    # Neither command nor arguments: an image of any version knows how its gateway starts, and where its file is.
    # Not /healthz: a gateway without a control document, or one that is stopped by it, answers 503 there and is well.
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 10}
    return {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [
            {
                "name": "gateway",
                "image": options.image,
                "resources": {"cpu": options.cpu, "memory": f"{options.memory_gib:g}Gi"},
                "volumeMounts": [
                    {"volumeName": "config", "mountPath": CONFIG_PATH},
                    {"volumeName": "state", "mountPath": STATE_PATH},
                ],
                "probes": [
                    {"type": "Startup", "failureThreshold": 30, **probe},
                    {"type": "Liveness", "failureThreshold": 3, **probe},
                ],
            }
        ],
        "scale": {"minReplicas": instances, "maxReplicas": instances},
        "volumes": [
            {
                "name": "config",
                "storageType": "Secret",
                "secrets": [{"secretRef": CONFIG_SECRET, "path": "gateway.json"}],
            },
            {"name": "state", "storageType": "EmptyDir"},
        ],
    }


def scale(instances: int) -> dict[str, Any]:
    """Only the number of replicas."""
    return {"properties": {"template": {"scale": {"minReplicas": instances, "maxReplicas": instances}}}}
