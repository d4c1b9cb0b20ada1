"""The file that starts an instance: JSON, mode 0600. It names files and folders; it holds no secret itself."""

from pathlib import Path
from typing import Final

import msgspec

from entrepot.cloud.gateway.seen import Seen
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, FormatError, NotFoundError
from entrepot.durable.files import write_private
from entrepot.objects.settings import StoreKind, StoreSettings

MAX_CONFIG: Final = 64 * 1024


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one instance runs.

    Attributes:
        instance: its id, new for every start; without a parent the beginning of it, which each start completes.
        point: the distribution point's id, which tokens must name as audience.
        root: the hierarchy root's raw public key: all that is trusted.
        store: folder of the object store; empty when ``remote`` says where it is.
        remote: S3 or Azure Blob; its credentials stand in a file of their own, or in the environment.
        state: folder below which each instance keeps its journal.
        certificate, private_key: PEM files of the service certificate; the key's mode is 0600.
        front: a front of the cloud ends TLS and is the only one that reaches this port (Azure Container Apps' ingress);
            then there is no certificate here, and HTTP is spoken.
        listen: ``host:port``; empty when a listener is inherited.
        listener: descriptor of an inherited listening socket, or -1.
        parent: process id of the host that started us and speaks to us over the pipes, or 0.
        poll: seconds between two looks at the control document; when no look was answered for three times as long, at
            least 6 s, nobody is served.
        drain_seconds: how long running downloads may go on after SIGTERM.
        seen: the highest documents that were obeyed before; older ones are refused.
    """

    instance: str
    point: str
    root: bytes
    store: str = ""
    remote: StoreSettings | None = None
    state: str
    certificate: str
    private_key: str
    front: bool = False
    listen: str = ""
    listener: int = -1
    parent: int = 0
    poll: float = 2.0
    drain_seconds: float = 60.0
    seen: Seen = Seen()


def load_config(path: Path) -> GatewayConfig:
    """Read and check an instance's file.

    Raises:
        NotFoundError: no such file.
        BadInputError: not such a configuration; contradictory settings.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no gateway configuration {path}.") from None
    try:
        config = from_json(data[:MAX_CONFIG], GatewayConfig, "gateway configuration")
    except FormatError as error:
        raise BadInputError(error.message) from None
    if len(config.root) != 32:
        raise BadInputError("The gateway configuration pins no proper hierarchy root.")
    if (config.listener >= 0) == bool(config.listen):
        raise BadInputError("The gateway configuration gives listen or listener: one of them.")
    if bool(config.store) == (config.remote is not None):
        raise BadInputError("The gateway configuration gives store or remote: one of them.")
    if config.remote is not None and config.remote.kind is StoreKind.FOLDER:
        raise BadInputError("The gateway configuration names a folder by store, not by remote.")
    if config.front == bool(config.certificate or config.private_key):
        raise BadInputError("The gateway configuration has a certificate and its key, or a front: one of them.")
    if not 0.05 <= config.poll <= 60 or not 0 <= config.drain_seconds <= 3600:
        raise BadInputError("The gateway configuration's poll is 0.05 to 60, drain_seconds 0 to 3600.")
    if not config.instance.replace("-", "").isalnum() or not config.instance.isascii():
        raise BadInputError("The gateway configuration's instance id has letters, digits and hyphens only.")
    return config


def save_config(path: Path, config: GatewayConfig) -> None:
    """Write an instance's file.

    Raises:
        StorageError: the disk refuses.
    """
    write_private(path, to_json(config))
