"""The store cannot be used, does not answer, or comes back: nothing is lost."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from entrepot.cloud.host.settings import load_settings
from entrepot.core.errors import StorageError, UnavailableError
from entrepot.objects.metering import Meter
from entrepot.objects.opening import open_remote
from entrepot.objects.settings import StoreSettings

from .conftest import keys

pytestmark = pytest.mark.process


class TestAStoreThatCannotBeUsed:
    """The host says so before it creates anything, and blames nobody else."""

    @pytest.fixture
    def remote(self, moto, tmp_path: Path) -> StoreSettings:
        return msgspec.structs.replace(moto.settings(), bucket="no-such-bucket")

    async def test_no_service_is_created(self, site, provider):
        with pytest.raises(StorageError, match="no such bucket"):
            await provider.create("cloud1", site.spec(1))
        assert await provider.services() == []


class TestAStoreThatIsAway:
    """Azurite ends and comes back; nothing is lost."""

    @pytest.fixture
    def remote(self, own_azurite) -> StoreSettings:
        return own_azurite.settings()

    async def test_clients_are_told_and_served_again(
        self, site, host, provider, running, client_of, own_azurite, until
    ):
        await provider.create("cloud1", site.spec(1))
        holder = provider.holder("cloud1")
        await site.fill(holder)
        client = client_of(await running("cloud1", 1))
        token = site.token()
        first, second, *_ = site.objects
        assert await client.read(first, token) == site.objects[first]
        await asyncio.to_thread(own_azurite.end)
        with pytest.raises(UnavailableError):
            await client.read(second, token)
        with pytest.raises(UnavailableError):
            await holder.put_document("control", site.control().encode())
        left = (await provider.delete("cloud1")).left
        assert left
        assert "object store" in left[0]
        await asyncio.to_thread(own_azurite.start)

        async def is_gone() -> bool:
            return await provider.services() == []

        await until(is_gone)
        assert keys(open_remote(load_settings(host.home).store, meter=Meter())) == []
