"""The kit that teams test their own instrumentation with."""

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


def service(**options: Any) -> Starlette:
    async def hello(_: Any) -> PlainTextResponse:
        trace.get_current_span().set_attributes(options.get("attributes", {}))
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello/{name}", hello), *options.get("routes", [])])
    app.add_middleware(obs.ObservabilityMiddleware, service="kit", **options.get("settings", {}))
    return app


def test_captures_are_isolated_from_one_another() -> None:
    app = service()
    for _ in range(3):
        with capture() as seen:
            TestClient(app).get("/hello/a")
        lines = [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]
        assert len(seen.spans) == len(lines) == seen.metric("http.server.request.duration").count == 1
    assert seen.spans[0].resource.attributes["service.name"] == "kit"


def test_captures_nest() -> None:
    app = service()
    with capture() as outer:
        TestClient(app).get("/hello/a")
        with capture() as inner:
            TestClient(app).get("/hello/b")
        TestClient(app).get("/hello/c")
    assert (len(outer.spans), len(inner.spans)) == (2, 1)


def test_failures_print_what_was_seen_instead(obs_capture: Captured) -> None:
    TestClient(service()).get("/hello/a")
    with pytest.raises(AssertionError, match=r"expected one span, found 0; seen:\n  GET /hello/\{name\}"):
        obs_capture.span("GET /nothing")
    with pytest.raises(AssertionError, match=r"there are: .*http\.server\.request\.duration"):
        obs_capture.metric("http.server.duration")
    with pytest.raises(AssertionError, match=r"expected one log line, found 0"):
        obs_capture.log("nothing")
    assert obs_capture.span(http_route="/hello/{name}").name == "GET /hello/{name}"
    assert obs_capture.log(http_route="/hello/{name}")["connectsoft.outcome"] == "success"


def test_a_service_that_keeps_the_conventions_has_no_findings(obs_capture: Captured) -> None:
    client = TestClient(service(attributes={"orders.count": 3}), raise_server_exceptions=False)
    for path in ("/hello/a", "/nothing"):
        client.get(path)
    with obs.operation("work"):
        obs.bind(tenant_id="acme")
    assert_conventions(obs_capture, own=("orders",))


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"http.method": "GET"}, "deprecated"),
        ({"Bad Name": 1}, "invalid_format"),
        ({"http.invented": 1}, "extends_namespace"),
        ({"invented.name": 1}, "illegal_namespace"),
        ({"connectsoft.invented": 1}, "missing_attribute"),
        ({"server.port": "80"}, "type_mismatch"),
    ],
)
def test_each_departure_is_a_finding(attributes: dict[str, Any], what: str, obs_capture: Captured) -> None:
    TestClient(service(attributes=attributes)).get("/hello/a")
    assert [finding.what for finding in findings(obs_capture)] == [what]
    with pytest.raises(AssertionError, match=what):
        assert_conventions(obs_capture)


def test_an_id_as_a_label_is_a_finding(obs_capture: Captured) -> None:
    with obs.operation("1b4e28ba-2fa1-11d2-883f-0016d3cca427"):
        pass
    assert "identifier_as_label" in {finding.what for finding in findings(obs_capture)}


def test_the_probe_contract_holds_for_a_service_of_ours() -> None:
    with capture():
        assert_probe_contract(service())


def test_the_probe_contract_names_who_would_be_misled() -> None:
    async def always_204(_: Any) -> JSONResponse:
        return JSONResponse(None, 204)

    bare = Starlette(routes=[Route("/health/ready", always_204)])
    with pytest.raises(AssertionError, match="/health/ready answers 204; Azure Load Balancer"):
        assert_probe_contract(bare)


def test_a_test_run_sends_nothing_unless_its_ini_file_says_so(pytester: pytest.Pytester) -> None:
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


def test_it_is_off_in_this_test_run_too() -> None:
    assert export_switch.exports_allowed is False


def test_the_plugin_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = {"opentelemetry", "structlog", "starlette", "prometheus_client"}
            assert not heavy & {name.partition(".")[0] for name in sys.modules}
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:anyio", "-p", "no:logfire").assert_outcomes(passed=1)


def test_what_was_bound_outside_of_operations_is_on_no_line_of_a_capture_and_the_other_way_round() -> None:
    obs.bind(order_id=1)
    with capture() as seen:
        obs.get_logger().info("inside")
        obs.bind(order_id=2)
    with capture() as again:
        obs.get_logger().info("inside")
    assert "order_id" not in {**seen.logs[0], **again.logs[0]}


def test_fixed_ids_are_the_same_each_time_and_unpredictable_afterwards() -> None:
    def drawn() -> list[tuple[int, int]]:
        with capture() as seen, obs.operation("outer"), obs.operation("inner"):
            pass
        return [(span.context.trace_id, span.context.span_id) for span in seen.spans]

    found = []
    for seed in (7, 7, 8):
        with fixed_ids(seed):
            found.append(drawn())
    assert found[0] == found[1] != found[2]
    assert len({span_id for _, span_id in found[0]}) == 2
    assert drawn() != drawn()


def test_a_tracer_of_opentelemetry_alone_is_seen() -> None:
    with capture() as seen, trace.get_tracer("shop").start_as_current_span("price"):
        pass
    assert seen.span("price").status.is_unset


def test_a_service_that_begins_after_such_a_span_has_its_own_name_and_both_are_seen() -> None:
    with capture() as seen:
        with trace.get_tracer("shop").start_as_current_span("before"):
            pass
        TestClient(service()).get("/hello/you")
    assert [span.name for span in seen.spans] == ["before", "GET /hello/{name}"]
    assert seen.spans[1].resource.attributes["service.name"] == "kit"
    assert seen.metric("http.server.request.duration").count == 1


def test_settings_that_cannot_work_do_not_make_a_span_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    with capture() as seen, trace.get_tracer("shop").start_as_current_span("price"):
        pass
    assert seen.spans == []
