"""As ``test_cloud_kills``, with a real cloud host and its gateways instead of Azure's double."""

from typing import Any

import pytest

from ..cloud.conftest import HostProcess
from .conftest import Lives
from .orders import GROUPS, assert_host_empty, cut, every, killed

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]


@pytest.mark.parametrize("disturbed", [killed, cut])
@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_every_order_to_a_cloud_host_is_carried_out(
    host_site: Lives, host: HostProcess, group: Any, disturbed: Any
) -> None:
    def empty() -> None:
        assert_host_empty(host)

    every(host_site, group, disturbed, empty)
