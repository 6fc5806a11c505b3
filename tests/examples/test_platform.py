"""The six services of `examples/`, as processes that talk to each other: what each README promises can be seen."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import together
from support.process import wait_for
from support.scrape import Page, scrape
from together import Platform, crossed, tree
from websockets.sync.client import connect

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.xdist_group("platform")
SERVICES = (*together.WEB, *together.WORKERS)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform(FACTORY_TIMEOUT="1", CONFIG_FRESH="0", AUDIT_AGAIN_AFTER_MS="200") as running:
        yield running


def page(platform: Platform, name: str) -> Page:
    return scrape(platform.urls[name])


def lines(platform: Platform, name: str, message: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in platform.said(name).splitlines() if line.startswith("{")]
    return [line for line in found if line["message"] == message]


def idle(platform: Platform) -> None:
    """Wait until what earlier tests have asked for is done."""
    broker = redis.Redis(port=platform.redis_port)

    def done() -> bool:
        found: Any = broker.xinfo_groups("factory-runs")
        return bool(found[0]["lag"] == 0 and found[0]["pending"] == 0)

    wait_for(done, 15, "no run is left")


def test_one_trace_crosses_all_six_services(platform: Platform) -> None:
    headers = platform.sign_in()
    assert platform.say("build shop", headers) == "shop is being built."

    def trace() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = platform.traces.with_span("audit-ingest", "process audit-events")
        return found

    six = {"bot-gateway", "saas-api", "identity-api", "config-service", "factory-runs", "audit-ingest"}
    wait_for(lambda: crossed(trace()) == six and len(trace()) >= 18, 15, "a trace through six services")
    ways = [[span.name, service] for service, span in trace()]
    assert ways[0] == ["POST /messages", "bot-gateway"]
    assert ways.count(["process audit-events", "audit-ingest"]) == 2, "what saas-api and what factory-runs tell"
    shown = list(tree(trace()))
    assert len(shown) == len(ways), "each span below another"
    assert sum(not line.startswith(" ") for line in shown) == 1


def test_the_correlation_id_of_the_caller_is_on_the_lines_of_all_services(platform: Platform) -> None:
    platform.say("build shop", {**platform.sign_in(), "X-Correlation-Id": "order-77"})

    def heard(name: str) -> bool:
        return '"connectsoft.correlation.id":"order-77"' in platform.said(name)

    for name in SERVICES:
        wait_for(partial(heard, name), 10, f"{name} writes the correlation id")


def test_identity_counts_failed_sign_ins_by_reason_and_spends_no_budget_on_them(platform: Platform) -> None:
    url = f"{platform.urls['identity_api']}/connect/token"
    before = page(platform, "identity_api")
    assert httpx.post(url, json={"username": "ada", "password": "wrong"}).status_code == 401
    assert httpx.post(url, json={"username": "eve", "password": "enigma"}).status_code == 401
    assert httpx.get(url.replace("token", "userinfo"), headers={"Authorization": "Bearer a.b"}).status_code == 401
    now = page(platform, "identity_api")
    for reason in ("wrong_password", "unknown_account"):
        name = "identity_sign_ins_total"
        assert now.sum(name, identity_result=reason) - before.sum(name, identity_result=reason) == 1
    events = "connectsoft_slo_events_total"
    good, bad = (
        {"connectsoft_slo_name": "auth-availability", "connectsoft_slo_outcome": word} for word in ("good", "bad")
    )
    assert now.sum(events, **good) - before.sum(events, **good) == 3
    assert now.sum(events, **bad) == 0
    assert "enigma" not in platform.said("identity_api")
    assert "wrong_password" in str(lines(platform, "identity_api", "sign-in refused"))


def test_the_tenant_is_on_lines_and_spans_and_a_label_only_where_it_is_listed(platform: Platform) -> None:
    headers = platform.sign_in()
    url = f"{platform.urls['saas_api']}/projects"
    mine = httpx.post(url, json={"name": "mine", "model": "nothing"}, headers=headers).json()["id"]
    others = {**headers, "X-Tenant-Id": "globex"}
    assert httpx.post(url, json={"name": "theirs", "model": "nothing"}, headers=others).status_code == 202
    assert httpx.get(f"{url}/{mine}", headers=headers).json()["asked_by"] == "ada"
    assert httpx.get(f"{url}/{mine}", headers=others).status_code == 404
    found = page(platform, "saas_api").by("saas_projects_total", "connectsoft_tenant_id")
    assert set(found) == {("acme",), ("_OTHER",)}
    assert "globex" not in page(platform, "saas_api").text
    assert {line["connectsoft.tenant.id"] for line in lines(platform, "saas_api", "project created")} == {
        "acme",
        "globex",
    }
    wait_for(lambda: _tenants(platform) == {"acme", "globex"}, 5, "spans with the tenant")


def _tenants(platform: Platform) -> set[str]:
    return {
        one.value.string_value
        for service, span in platform.traces.spans
        if (service, span.name) == ("saas-api", "POST /projects")
        for one in span.attributes
        if one.key == "connectsoft.tenant.id"
    }


def test_each_ending_of_a_run_is_told_and_only_the_last_failure_counts(platform: Platform) -> None:
    headers = platform.sign_in()
    idle(platform)
    before = page(platform, "factory_runs").endings()

    def new() -> dict[tuple[str, str, str], float]:
        now = page(platform, "factory_runs").endings()
        return {key: now[key] - before.get(key, 0) for key in now if now[key] != before.get(key, 0)}

    for model in ("well", "refused once", "broken", "slow", "nothing"):
        assert platform.say(f"build it {model}", headers) == "it is being built."
    wait_for(lambda: sum(number for (job, *_), number in new().items() if job == "factory-run") == 5, 15)
    assert {key[1:]: number for key, number in new().items() if key[0] == "factory-run"} == {
        ("success", ""): 2,
        ("failure", "__main__.RefusedError"): 1,
        ("timeout", "timeout"): 1,
        ("rejected", ""): 1,
    }
    idle(platform)
    numbers = page(platform, "factory_runs")
    assert numbers.sum("connectsoft_job_retries_total", connectsoft_job_name="generate") == 3
    assert numbers.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="bad") == 2
    assert numbers.sum("gen_ai_client_operation_duration_seconds_count", error_type="__main__.RefusedError") == 4
    assert {line["connectsoft.agent.id"] for line in lines(platform, "factory_runs", "planned")} == {"architect"}
    assert "architect" not in numbers.text


def test_the_audit_keeps_what_happened_sets_poison_aside_and_tells_age_and_backlog(platform: Platform) -> None:
    broker = redis.Redis(port=platform.redis_port)
    platform.say("build shop", platform.sign_in())
    broker.xadd("audit-events", {"body": "no json"})
    wait_for(lambda: broker.xlen("audit-events-dead") == 1, 10, "poison is set aside")
    wait_for(lambda: '"artifact.built"' in platform.trail.read_text(), 10, "the end of a run is kept")
    kept = [json.loads(line) for line in platform.trail.read_text().splitlines()]
    assert {"project.created", "artifact.built"} == {event["what"] for event in kept}
    numbers = page(platform, "audit_ingest")
    assert numbers.sum("audit_event_age_seconds_bucket", audit_event="project.created", le="5.0") > 0
    assert numbers.sum("connectsoft_message_outcomes_total", connectsoft_outcome="rejected") == 1
    wait_for(lambda: page(platform, "audit_ingest").sum("audit_backlog") == 0, 10, "no backlog")


def test_a_conversation_is_one_stream_and_each_answer_is_measured(platform: Platform) -> None:
    before = page(platform, "bot_gateway")
    headers = platform.sign_in()
    with connect(platform.urls["bot_gateway"].replace("http", "ws") + "/chat", additional_headers=headers) as socket:
        socket.send("hello")
        assert socket.recv() == 'Say "build NAME".'
        socket.send("build shop nothing")
        assert socket.recv() == "shop is being built."
        open_ = page(platform, "bot_gateway")
        assert open_.sum("connectsoft_http_stream_active", connectsoft_http_stream_kind="websocket") == 1
    with connect(platform.urls["bot_gateway"].replace("http", "ws") + "/chat") as socket:
        socket.send("build shop")
        assert socket.recv() == "Sign in first."

    def grown(name: str, **labels: str) -> float:
        return page(platform, "bot_gateway").sum(name, **labels) - before.sum(name, **labels)

    wait_for(lambda: grown("connectsoft_http_stream_duration_seconds_count") == 2, 5, "two conversations")
    assert grown("connectsoft_job_duration_seconds_count", connectsoft_job_name="answer") == 3
    name = {"connectsoft_slo_name": "response-time", "connectsoft_slo_outcome": "good"}
    assert grown("connectsoft_slo_events_total", **name) == 3


def test_without_its_store_config_leaves_rotation_and_still_serves_what_it_knows(platform: Platform) -> None:
    idle(platform)
    url = f"{platform.urls['config_service']}/config/colour"
    assert httpx.put(url, json={"value": "blue"}).status_code == 204
    assert httpx.get(url).headers["X-Config-Source"] == "store"
    platform.stop_redis()
    try:
        wait_for(lambda: not platform.ready("config_service"), 15, "the store is critical")
        assert httpx.get(url).headers["X-Config-Source"] == "stale"
        assert httpx.get(f"{platform.urls['config_service']}/health/live").status_code == 200
        wait_for(lambda: not platform.ready("audit_ingest"), 15, "so is the broker")
    finally:
        platform.start_redis()
    for name in ("config_service", "audit_ingest", "factory_runs"):
        wait_for(partial(platform.ready, name), 20, f"{name} recovers by itself")
    kept = platform.trail.read_text().count('"artifact.built"')
    assert platform.say("build after", platform.sign_in()) == "after is being built."
    wait_for(lambda: platform.trail.read_text().count('"artifact.built"') == kept + 1, 15, "work goes on")


def test_a_broker_that_was_restarted_costs_nobody_an_answer(platform: Platform) -> None:
    headers = platform.sign_in()
    idle(platform)
    assert platform.say("build warm nothing", headers) == "warm is being built.", "a connection is in the pool"
    idle(platform)
    platform.stop_redis()
    platform.start_redis()
    assert platform.say("build next nothing", headers) == "next is being built."


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_promises_what_its_file_says(platform: Platform, name: str) -> None:
    promised = {slo["name"] for slo in tomllib.loads((EXAMPLES / name / "slo.toml").read_text())["slo"]}
    found = page(platform, name)
    events = {
        sample.labels["connectsoft_slo_name"]
        for sample in found._samples
        if sample.name == "connectsoft_slo_events_total"
    }
    assert events == promised


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_lost_telemetry_or_failed_in_its_instrumentation(platform: Platform, name: str) -> None:
    found = page(platform, name)
    assert found.by("connectsoft_obs_errors_total", "connectsoft_obs_where") == {}
    assert found.by("connectsoft_obs_dropped_total", "connectsoft_obs_signal", "connectsoft_obs_reason") == {}
    assert (EXAMPLES / name / "README.md").is_file()
