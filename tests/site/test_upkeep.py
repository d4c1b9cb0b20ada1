"""Upkeep goes on whatever one part of it meets."""

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.site import upkeep as room
from entrepot.site.upkeep import load_tls_certificate
from entrepot.trust.inspection import days_left

DAY = 86_400


@pytest.mark.parametrize("error", [UnavailableError("The database does not answer."), ValueError("a defect")])
async def test_a_step_that_fails_keeps_the_certificate_and_the_sweep_from_nothing(site, clock, monkeypatch, error):
    def forget(*_):
        raise error

    async def trim(*_, **__):
        raise error

    monkeypatch.setattr(room, "_forget", forget)
    monkeypatch.setattr(room, "trim", trim)
    home = site.home
    clock.advance((days_left(load_tls_certificate(home), clock.now) - 30) * DAY)
    assert days_left(load_tls_certificate(home), clock.now) < 60
    swept = await site.server.upkeep.run_once()
    assert swept.deleted == 0
    assert days_left(load_tls_certificate(home), clock.now) > 60


async def test_a_certificate_file_that_cannot_be_read_keeps_the_rest_from_nothing(site, monkeypatch):
    done = []
    monkeypatch.setattr(room, "_forget", lambda *_: done.append("forgotten"))
    site.home.tls_certificate.write_text("damaged")
    await site.server.upkeep.run_once()
    assert done == ["forgotten"]
