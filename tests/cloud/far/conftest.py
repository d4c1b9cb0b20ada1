"""Cloud hosts whose services keep their content far away: in S3 or Azure Blob."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.settings import load_settings, save_settings
from entrepot.cloud.host.setup import init_host
from entrepot.cloud.providers.host import HostProvider
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.settings import StoreSettings
from entrepot.objects.store import ObjectStore

from .s3_front import S3Front


@pytest.fixture(params=["moto", "azurite"])
def remote(request: pytest.FixtureRequest) -> StoreSettings:
    """A prefix in a bucket."""
    settings: StoreSettings = request.getfixturevalue(request.param).settings()
    return settings


@pytest.fixture
def s3_front(moto, tmp_path: Path) -> Iterator[S3Front]:
    """S3 by HTTPS, for one test."""
    front = S3Front(moto.settings(), tmp_path)
    yield front
    front.close()


@pytest.fixture
def bucket(remote: StoreSettings) -> ObjectStore:
    """What lies below the host's prefix, seen by its owner."""
    return open_remote(remote, meter=Meter())


@pytest.fixture
def host(tmp_path: Path, remote: StoreSettings, host_process) -> Iterator[object]:
    """A running cloud host whose services keep their content far away."""
    home = tmp_path / "host"
    identity = init_host(home, "127.0.0.1:0", now=time.time())
    save_settings(home, msgspec.structs.replace(load_settings(home), store=remote))
    process = host_process(home, identity)
    process.start()
    yield process
    process.end()
    assert process.gateways() == []


@pytest.fixture
async def provider(host, management, providers) -> AsyncIterator[HostProvider]:
    administration = HostAdministration(host.home)
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", management.cer)
    async with providers(subscription.id, management) as made:
        yield made


def keys(store: ObjectStore) -> list[str]:
    """What is stored."""
    return [entry.key for entry in store.list().entries]
