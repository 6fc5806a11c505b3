"""The test kit: `capture()`, conventions, probe contract, fixed ids and the pytest plugin."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.process import export_switch
from connectsoft_obs.testing import Captured, assert_conventions, assert_probe_contract, capture, findings, fixed_ids

pytest_plugins = ["pytester"]


def create_service(**options: Any) -> Starlette:
    async def hello(_: Any) -> PlainTextResponse:
        trace.get_current_span().set_attributes(options.get("attributes", {}))
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello/{name}", hello), *options.get("routes", [])])
    app.add_middleware(obs.ObservabilityMiddleware, service="kit", **options.get("settings", {}))
    return app


def test_captures_are_isolated() -> None:
    app = create_service()
    for _ in range(3):
        with capture() as captured:
            TestClient(app).get("/hello/a")
        lines = [line for line in captured.logs if line["logger"] == "connectsoft_obs.access"]
        assert len(captured.spans) == len(lines) == captured.metric("http.server.request.duration").count == 1
    assert captured.spans[0].resource.attributes["service.name"] == "kit"


def test_captures_can_be_nested() -> None:
    app = create_service()
    with capture() as outer:
        TestClient(app).get("/hello/a")
        with capture() as inner:
            TestClient(app).get("/hello/b")
        TestClient(app).get("/hello/c")
    assert (len(outer.spans), len(inner.spans)) == (2, 1)


def test_failed_look_up_lists_what_was_captured(obs_capture: Captured) -> None:
    TestClient(create_service()).get("/hello/a")
    with pytest.raises(AssertionError, match=r"expected one span, found 0; captured:\n  GET /hello/\{name\}"):
        obs_capture.span("GET /nothing")
    with pytest.raises(AssertionError, match=r"metrics with series: .*http\.server\.request\.duration"):
        obs_capture.metric("http.server.duration")
    with pytest.raises(AssertionError, match=r"expected one log line, found 0"):
        obs_capture.log("nothing")
    assert obs_capture.span(http_route="/hello/{name}").name == "GET /hello/{name}"
    assert obs_capture.log(http_route="/hello/{name}")["connectsoft.outcome"] == "success"


def test_service_that_follows_the_conventions_has_no_findings(obs_capture: Captured) -> None:
    client = TestClient(create_service(attributes={"orders.count": 3}), raise_server_exceptions=False)
    for path in ("/hello/a", "/nothing"):
        client.get(path)
    with obs.operation("work"):
        obs.bind(tenant_id="acme")
    assert_conventions(obs_capture, namespaces=("orders",))


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"http.method": "GET"}, "deprecated"),
        ({"Bad Name": 1}, "invalid_format"),
        ({"http.invented": 1}, "extends_namespace"),
        ({"invented.name": 1}, "illegal_namespace"),
        ({"connectsoft.invented": 1}, "missing_attribute"),
        ({"server.port": "80"}, "type_mismatch"),
    ],
)
def test_each_violation_of_a_convention_is_a_finding(
    attributes: dict[str, Any], code: str, obs_capture: Captured
) -> None:
    TestClient(create_service(attributes=attributes)).get("/hello/a")
    assert [finding.code for finding in findings(obs_capture)] == [code]
    with pytest.raises(AssertionError, match=code):
        assert_conventions(obs_capture)


def test_identifier_as_label_is_a_finding(obs_capture: Captured) -> None:
    with obs.operation("1b4e28ba-2fa1-11d2-883f-0016d3cca427"):
        pass
    assert "identifier_as_label" in {finding.code for finding in findings(obs_capture)}


def test_probe_contract_holds_for_the_middleware() -> None:
    with capture():
        assert_probe_contract(create_service())


def test_probe_contract_names_the_affected_platforms() -> None:
    async def always_204(_: Any) -> JSONResponse:
        return JSONResponse(None, 204)

    app = Starlette(routes=[Route("/health/ready", always_204)])
    with pytest.raises(AssertionError, match="/health/ready returns 204; Azure Load Balancer"):
        assert_probe_contract(app)


def test_exports_are_disabled_unless_the_ini_file_enables_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import connectsoft_obs as obs
        from connectsoft_obs.process import export_switch

        def test_it(obs_capture):
            telemetry = obs.configure(service="a", otlp_endpoint="http://127.0.0.1:9")
            assert not telemetry.export_processors()
            assert export_switch.exports_allowed is False
            assert obs_capture.spans == []
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nobs_exports = true")
    pytester.makepyfile(
        "from connectsoft_obs.process import export_switch\ndef test_it():\n    assert export_switch.exports_allowed"
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_exports_are_disabled_in_this_test_run() -> None:
    assert export_switch.exports_allowed is False


def test_plugin_imports_no_large_packages(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            large = {"opentelemetry", "structlog", "starlette", "prometheus_client"}
            assert not large & {name.partition(".")[0] for name in sys.modules}
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:anyio", "-p", "no:logfire").assert_outcomes(passed=1)


def test_capture_isolates_ambient_bindings() -> None:
    obs.bind(order_id=1)
    with capture() as captured:
        obs.get_logger().info("inside")
        obs.bind(order_id=2)
    with capture() as next_capture:
        obs.get_logger().info("inside")
    assert "order_id" not in {**captured.logs[0], **next_capture.logs[0]}


def test_fixed_ids_are_repeatable_and_random_afterwards() -> None:
    def generate_ids() -> list[tuple[int, int]]:
        with capture() as captured, obs.operation("outer"), obs.operation("inner"):
            pass
        return [(span.context.trace_id, span.context.span_id) for span in captured.spans]

    runs = []
    for seed in (7, 7, 8):
        with fixed_ids(seed):
            runs.append(generate_ids())
    assert runs[0] == runs[1] != runs[2]
    assert len({span_id for _, span_id in runs[0]}) == 2
    assert generate_ids() != generate_ids()


def test_span_of_an_opentelemetry_tracer_is_captured() -> None:
    with capture() as captured, trace.get_tracer("shop").start_as_current_span("price"):
        pass
    assert captured.span("price").status.is_unset


def test_service_created_after_a_span_keeps_its_name() -> None:
    with capture() as captured:
        with trace.get_tracer("shop").start_as_current_span("before"):
            pass
        TestClient(create_service()).get("/hello/you")
    assert [span.name for span in captured.spans] == ["before", "GET /hello/{name}"]
    assert captured.spans[1].resource.attributes["service.name"] == "kit"
    assert captured.metric("http.server.request.duration").count == 1


def test_invalid_settings_do_not_make_a_span_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTSOFT_OBS_ACCESS_LOG", "sometimes")
    with capture() as captured, trace.get_tracer("shop").start_as_current_span("price"):
        pass
    assert captured.spans == []


def test_conventions_look_at_log_lines() -> None:
    with capture() as seen:
        obs.get_logger("orders").info("first")
        assert seen.telemetry is not None
        seen.telemetry.log(30, "own line", {"cause": "a", "exports": 1, "budget": 2.0})
        obs.get_logger("orders").info("kept", order_number=1)
    assert findings(seen) == []
    with capture() as seen:
        obs.get_logger("orders").info("kept", **{"http.server.request.duration": 1.0})
        obs.get_logger("connectsoft_obs").info("kept", cause="a")
    assert sorted(finding.code for finding in findings(seen)) == ["extends_namespace", "missing_namespace"]
