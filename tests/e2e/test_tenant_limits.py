"""What one tenant may make and submit, and that another one does not notice (`[limits]`)."""

import json

import pytest
from api_rig import Served, is_problem, serve
from rig import hook

LIMITS = 'limits.webhooks_per_tenant = 2\nlimits.events_per_tenant = "1/h burst 3"\n'
URL = "http://127.0.0.1:9443/x"


@pytest.fixture
def house(tmp_path):
    made = serve(tmp_path, hook("file", 9443, tenant="a"), LIMITS)
    yield made
    made.running.close()


def test_a_tenant_makes_so_many_webhooks_by_itself_and_files_and_operators_are_not_counted(house: Served):
    tenant, other = house.caller("a", "manage"), house.caller("b", "admin")
    house.admin.make(URL, tenant="a")
    made = [tenant.make(URL) for _ in range(2)]
    refused = tenant.post("/v1/webhooks", {"url": URL, "events": ["*"]})
    assert is_problem(refused, 409, "limit_reached")
    assert "limits.webhooks_per_tenant allows 2" in refused.json["detail"]
    assert other.make(URL)["tenant"] == "b"
    assert house.admin.make(URL, tenant="a")["tenant"] == "a"
    # what exists stays as it is, over a restart too; and one that goes makes room
    house.restart()
    assert is_problem(tenant.post("/v1/webhooks", {"url": URL, "events": ["*"]}), 409, "limit_reached")
    assert tenant.patch(f"/v1/webhooks/{made[0]['id']}", {"description": "kept"}).status == 200
    assert tenant.delete(f"/v1/webhooks/{made[0]['id']}").status == 204
    tenant.make(URL)
    metrics = house.admin.get("/metrics").body.decode()
    assert 'hookrelay_limits_met_total{limit="webhooks_per_tenant"} 1.0' in metrics


def test_a_tenant_submits_so_fast_by_any_way_in_and_another_as_fast_as_it_may(house: Served):
    def line(tenant: str) -> bytes:
        return json.dumps({"type": "a.b", "tenant": tenant, "data": 1}).encode() + b"\n"

    said = house.running.submit(*[line("a")] * 4, line("b"))
    assert ["id" in each for each in said] == [True, True, True, False, True]
    assert said[3]["error"]["code"] == "rate_limited"
    assert "limits.events_per_tenant" in said[3]["error"]["detail"]
    refused = house.caller("a", "submit").post("/v1/events", {"type": "a.b", "data": 1})
    assert is_problem(refused, 429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    many = house.admin.post("/v1/events", line("a") + line("b"), content_type="application/x-ndjson")
    assert (many.status, [b"rate_limited" in each for each in many.body.splitlines()]) == (200, [True, False])
    # a reload changes it for those that come
    config = house.running.config
    config.write_text(config.read_text().replace('"1/h burst 3"', '"100/s"'))
    assert house.admin.post("/-/reload").status == 200
    assert "id" in house.running.submit(line("a"))[0]
