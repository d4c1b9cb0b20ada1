"""A gateway whose TLS ends at a front of the cloud, as in Azure Container Apps: HTTP inside, no certificate here."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.gateway.config import GatewayConfig, load_config, save_config
from entrepot.core.errors import BadInputError

pytestmark = pytest.mark.process


def _config(folder: Path, site: Any) -> GatewayConfig:
    (folder / "store").mkdir()
    return GatewayConfig(
        instance="gw",
        point="pt-0123456789abcdef",
        root=site.root.public,
        store=str(folder / "store"),
        state=str(folder / "state"),
        certificate="",
        private_key="",
        front=True,
        listen="127.0.0.1:0",
    )


def test_it_says_that_it_speaks_http_answers_in_http_and_ends_when_told(tmp_path: Path, site: Any) -> None:
    save_config(tmp_path / "gateway.json", _config(tmp_path, site))
    process = subprocess.Popen(
        [sys.executable, "-m", "entrepot.cloud.gateway", str(tmp_path / "gateway.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["url"].startswith("http://127.0.0.1:")

        with pytest.raises(urllib.error.HTTPError) as caught:  # no control document yet: it serves nobody, and says so
            urllib.request.urlopen(f"{told['url']}/healthz")
        assert json.loads(caught.value.read())["control"] == 0
        assert caught.value.code == 503
        caught.value.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("changes", [{"front": False}, {"certificate": "service.crt"}])
def test_a_front_and_a_certificate_exclude_each_other(tmp_path: Path, site: Any, changes: dict[str, Any]) -> None:
    save_config(tmp_path / "gateway.json", msgspec.structs.replace(_config(tmp_path, site), **changes))
    with pytest.raises(BadInputError, match="front"):
        load_config(tmp_path / "gateway.json")
