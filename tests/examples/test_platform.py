"""Runs the six services of `examples/` as processes and checks the telemetry that their READMEs describe."""

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
from support.scrape import MetricsPage, scrape
from together import Platform, render_tree, services_of
from websockets.sync.client import connect

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICES = (*together.WEB_SERVICES, *together.WORKERS)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform(FACTORY_TIMEOUT="1", CONFIG_CACHE_SECONDS="0") as running_platform:
        yield running_platform


def metrics_page(platform: Platform, name: str) -> MetricsPage:
    return scrape(platform.urls[name])


def log_lines(platform: Platform, name: str, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in platform.output(name).splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == message]


def wait_until_idle(platform: Platform) -> None:
    """Wait until all runs that earlier tests requested have completed."""
    broker = redis.Redis(port=platform.redis_port)

    def is_idle() -> bool:
        groups: Any = broker.xinfo_groups("factory-runs")
        return bool(groups[0]["lag"] == 0 and groups[0]["pending"] == 0)

    wait_for(is_idle, 15, "no pending run")


def test_one_trace_spans_all_six_services(platform: Platform) -> None:
    headers = platform.sign_in()
    assert platform.send_message("build shop", headers) == "shop is being built."

    def trace() -> list[tuple[str, Any]]:
        spans: list[tuple[str, Any]] = platform.traces.latest_trace("audit-ingest", "process audit-events")
        return spans

    services = {"bot-gateway", "saas-api", "identity-api", "config-service", "factory-runs", "audit-ingest"}
    wait_for(lambda: services_of(trace()) == services and len(trace()) >= 18, 15, "a trace through six services")
    spans = [(span.name, service) for service, span in trace()]
    assert spans[0] == ("POST /messages", "bot-gateway")
    assert spans.count(("process audit-events", "audit-ingest")) == 2, "one event of saas-api, one of factory-runs"
    rows = list(render_tree(trace()))
    assert len(rows) == len(spans), "every span has a parent in the trace"
    assert sum(not row.startswith(" ") for row in rows) == 1


def test_the_correlation_id_of_the_caller_is_on_lines_of_all_services(platform: Platform) -> None:
    headers = {**platform.sign_in(), "X-Correlation-Id": "order-77"}
    assert platform.send_message("build shop", headers) == "shop is being built."

    def has_correlation_id(name: str) -> bool:
        return '"connectsoft.correlation.id":"order-77"' in platform.output(name)

    for name in SERVICES:
        wait_for(partial(has_correlation_id, name), 10, f"{name} logs the correlation id")


def test_identity_counts_failed_sign_ins_without_spending_budget(platform: Platform) -> None:
    url = f"{platform.urls['identity_api']}/connect/token"
    before = metrics_page(platform, "identity_api")
    assert httpx.post(url, json={"username": "ada", "password": "wrong"}).status_code == 401
    assert httpx.post(url, json={"username": "eve", "password": "enigma"}).status_code == 401
    assert httpx.get(url.replace("token", "userinfo"), headers={"Authorization": "Bearer a.b"}).status_code == 401
    after = metrics_page(platform, "identity_api")
    for reason in ("wrong_password", "unknown_account"):
        name = "identity_sign_ins_total"
        assert after.sum(name, identity_result=reason) - before.sum(name, identity_result=reason) == 1
    events = "connectsoft_slo_events_total"
    good, bad = (
        {"connectsoft_slo_name": "auth-availability", "connectsoft_slo_outcome": outcome} for outcome in ("good", "bad")
    )
    assert after.sum(events, **good) - before.sum(events, **good) == 3
    assert after.sum(events, **bad) == 0
    assert "enigma" not in platform.output("identity_api")
    assert "wrong_password" in str(log_lines(platform, "identity_api", "sign-in refused"))


def test_only_listed_tenants_are_metric_labels(platform: Platform) -> None:
    headers = platform.sign_in()
    url = f"{platform.urls['saas_api']}/projects"
    project_id = httpx.post(url, json={"name": "first", "model": "nothing"}, headers=headers).json()["id"]
    other_tenant = {**headers, "X-Tenant-Id": "globex"}
    assert httpx.post(url, json={"name": "second", "model": "nothing"}, headers=other_tenant).status_code == 202
    assert httpx.get(f"{url}/{project_id}", headers=headers).json()["requested_by"] == "ada"
    assert httpx.get(f"{url}/{project_id}", headers=other_tenant).status_code == 404
    projects = metrics_page(platform, "saas_api").values_by("saas_projects_total", "connectsoft_tenant_id")
    assert set(projects) == {("acme",), ("_OTHER",)}
    assert "globex" not in metrics_page(platform, "saas_api").text
    lines = log_lines(platform, "saas_api", "project created")
    assert {line["connectsoft.tenant.id"] for line in lines} == {"acme", "globex"}
    wait_for(lambda: _span_tenants(platform) == {"acme", "globex"}, 5, "spans with the tenant")


def _span_tenants(platform: Platform) -> set[str]:
    return {
        attribute.value.string_value
        for service, span in platform.traces.spans
        if (service, span.name) == ("saas-api", "POST /projects")
        for attribute in span.attributes
        if attribute.key == "connectsoft.tenant.id"
    }


def test_factory_runs_count_each_outcome_and_only_final_failures(platform: Platform) -> None:
    headers = platform.sign_in()
    wait_until_idle(platform)
    before = metrics_page(platform, "factory_runs").job_runs()

    def new_runs() -> dict[tuple[str, str, str], float]:
        after = metrics_page(platform, "factory_runs").job_runs()
        return {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}

    for model in ("well", "refused once", "broken", "slow", "nothing"):
        assert platform.send_message(f"build it {model}", headers) == "it is being built."
    wait_for(lambda: sum(count for (job, *_), count in new_runs().items() if job == "factory-run") == 5, 15)
    assert {key[1:]: count for key, count in new_runs().items() if key[0] == "factory-run"} == {
        ("success", ""): 2,
        ("failure", "__main__.ModelRefusedError"): 1,
        ("timeout", "timeout"): 1,
        ("rejected", ""): 1,
    }
    wait_until_idle(platform)
    page = metrics_page(platform, "factory_runs")
    assert page.sum("connectsoft_job_retries_total", connectsoft_job_name="generate") == 3
    assert page.sum("connectsoft_slo_events_total", connectsoft_slo_outcome="bad") == 2
    assert page.sum("gen_ai_client_operation_duration_seconds_count", error_type="__main__.ModelRefusedError") == 4
    assert {line["connectsoft.agent.id"] for line in log_lines(platform, "factory_runs", "planned")} == {"architect"}
    assert "architect" not in page.text


def test_audit_stores_events_and_rejects_invalid_messages(platform: Platform) -> None:
    broker = redis.Redis(port=platform.redis_port)
    platform.send_message("build shop", platform.sign_in())
    broker.xadd("audit-events", {"body": "not json"})
    wait_for(lambda: broker.xlen("audit-events-dead") == 1, 10, "the invalid message is in the dead letter stream")
    wait_for(lambda: '"artifact.built"' in platform.audit_trail.read_text(), 10, "the end of a run is stored")
    events = [json.loads(line) for line in platform.audit_trail.read_text().splitlines()]
    assert {"project.created", "artifact.built"} == {event["action"] for event in events}
    page = metrics_page(platform, "audit_ingest")
    assert page.sum("audit_event_age_seconds_bucket", audit_event="project.created", le="5.0") > 0
    assert page.sum("connectsoft_message_outcomes_total", connectsoft_outcome="rejected") == 1
    wait_for(lambda: metrics_page(platform, "audit_ingest").sum("audit_backlog") == 0, 10, "no backlog")


def test_a_conversation_is_one_stream_with_one_run_per_answer(platform: Platform) -> None:
    before = metrics_page(platform, "bot_gateway")
    headers = platform.sign_in()
    chat_url = platform.urls["bot_gateway"].replace("http", "ws") + "/chat"
    with connect(chat_url, additional_headers=headers) as socket:
        socket.send("hello")
        assert socket.recv() == 'Say "build NAME".'
        socket.send("build shop nothing")
        assert socket.recv() == "shop is being built."
        page = metrics_page(platform, "bot_gateway")
        assert page.sum("connectsoft_http_stream_active", connectsoft_http_stream_kind="websocket") == 1
    with connect(chat_url) as socket:
        socket.send("build shop")
        assert socket.recv() == "Sign in first."

    def increase(name: str, **labels: str) -> float:
        return metrics_page(platform, "bot_gateway").sum(name, **labels) - before.sum(name, **labels)

    wait_for(lambda: increase("connectsoft_http_stream_duration_seconds_count") == 2, 5, "two conversations")
    assert increase("connectsoft_job_duration_seconds_count", connectsoft_job_name="answer") == 3
    labels = {"connectsoft_slo_name": "response-time", "connectsoft_slo_outcome": "good"}
    assert increase("connectsoft_slo_events_total", **labels) == 3


def test_config_without_its_store_is_unready_and_serves_stale_values(platform: Platform) -> None:
    wait_until_idle(platform)
    url = f"{platform.urls['config_service']}/config/colour"
    assert httpx.put(url, json={"value": "blue"}).status_code == 204
    assert httpx.get(url).headers["X-Config-Source"] == "store"
    platform.stop_redis()
    try:
        wait_for(lambda: not platform.is_ready("config_service"), 15, "the store is a critical check")
        assert httpx.get(url).headers["X-Config-Source"] == "stale"
        assert httpx.get(f"{platform.urls['config_service']}/health/live").status_code == 200
        wait_for(lambda: not platform.is_ready("audit_ingest"), 15, "the broker is a critical check")
    finally:
        platform.start_redis()
    for name in ("config_service", "audit_ingest", "factory_runs"):
        wait_for(partial(platform.is_ready, name), 20, f"{name} is ready again")
    built = platform.audit_trail.read_text().count('"artifact.built"')
    assert platform.send_message("build after", platform.sign_in()) == "after is being built."
    wait_for(lambda: platform.audit_trail.read_text().count('"artifact.built"') == built + 1, 15, "runs continue")


def test_a_restart_of_the_broker_fails_no_request(platform: Platform) -> None:
    headers = platform.sign_in()
    wait_until_idle(platform)
    assert platform.send_message("build first nothing", headers) == "first is being built.", "a connection is pooled"
    wait_until_idle(platform)
    platform.stop_redis()
    platform.start_redis()
    assert platform.send_message("build second nothing", headers) == "second is being built."


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_counts_the_slos_of_its_file(platform: Platform, name: str) -> None:
    declared = {slo["name"] for slo in tomllib.loads((EXAMPLES / name / "slo.toml").read_text())["slo"]}
    page = metrics_page(platform, name)
    counted = {
        sample.labels["connectsoft_slo_name"]
        for sample in page._samples
        if sample.name == "connectsoft_slo_events_total"
    }
    assert counted == declared


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_lost_telemetry_or_had_internal_errors(platform: Platform, name: str) -> None:
    page = metrics_page(platform, name)
    assert page.values_by("connectsoft_obs_errors_total", "connectsoft_obs_where") == {}
    assert page.values_by("connectsoft_obs_dropped_total", "connectsoft_obs_signal", "connectsoft_obs_reason") == {}
    assert (EXAMPLES / name / "README.md").is_file()
