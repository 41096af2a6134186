"""Stubs of the daemon's HTTP API that end with their test."""

import pytest
from stub_api import StubApi


@pytest.fixture(params=["unix", "tcp"])
def api(request, tmp_path):
    running = StubApi(str(tmp_path / "api.sock") if request.param == "unix" else None)
    yield running
    running.close()


@pytest.fixture
def stub(tmp_path):
    running = StubApi(str(tmp_path / "api.sock"))
    yield running
    running.close()
