"""Where somebody goes after signing in."""

import pytest

from hookrelay.web.dashboard.entrance import _onward


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        ("/dashboard/deliveries?status=failed", "/dashboard/deliveries?status=failed"),
        ("/dashboard/webhooks/wh_1", "/dashboard/webhooks/wh_1"),
        ("/dashboard/../v1/webhooks", "/dashboard"), ("/dashboard/%2e%2e/v1", "/dashboard"),
        ("/dashboard//evil.example", "/dashboard"), ("//evil.example", "/dashboard"), ("", "/dashboard"),
    ],
)  # fmt: skip
def test_nobody_is_sent_out_of_the_dashboard_after_signing_in(asked: str, goes: str):
    assert _onward(asked) == goes
