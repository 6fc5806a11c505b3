"""An exception in any function of the package is counted and does not change the behaviour of the application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.fault_injection import executed_functions, function_label, inject_fault, qualified_names
from support.fault_scenarios import SCENARIOS, Action, Scenario
from support.otlp import HttpSink

import connectsoft_obs
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry, telemetry_holder
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter
from connectsoft_obs.vocabulary import ERRORS

ENTRY_POINTS = {
    # Functions that servers, frameworks, the standard library or applications call. They contain the guards, their bodies
    # are a few lines, and faults are injected into every function that they call.
    "asgi/middleware.py": "ObservabilityMiddleware.__init__ ObservabilityMiddleware.__call__ "
    "ObservabilityMiddleware._handle_connection ObservabilityMiddleware._handle_lifespan "
    "ObservabilityMiddleware._wrap_middleware_stack ObservabilityMiddleware._wrap_error_middleware "
    "ObservabilityMiddleware._disable_other_instrumentation ObservabilityMiddleware._bind "
    "ObservabilityMiddleware._resolve_telemetry "
    "ObservabilityMiddleware._handle_without_telemetry",
    "asgi/outermost.py": "Outermost.__call__",
    "asgi/instrumentation.py": "RequestInstrumentation.handle",
    "asgi/request.py": "HttpRequest.send HttpRequest.receive HttpRequest._on_response_start HttpRequest._on_last_byte",
    "asgi/websocket.py": "WebSocketRequest.send WebSocketRequest.receive",
    "asgi/endpoint_responder.py": "EndpointResponder.send EndpointResponder._respond "
    "EndpointResponder._respond_in_thread EndpointResponder._respond_in_thread.<locals>.<lambda> "
    "run_in_thread _call _call.<locals>.complete send_response",
    "endpoints/request_response.py": "EndpointResponse.all_headers",
    "endpoints/router.py": "_ProbePage.__call__",
    "asgi/lifespan.py": "Lifespan.__init__ Lifespan.run Lifespan._run_guarded Lifespan.run.<locals>.observe_receive "
    "Lifespan.run.<locals>.observe_send _flush",
    "internal_telemetry.py": "InternalTelemetry.guard guard Guard.__init__ Guard.__enter__ Guard.__exit__",
    "signals/logs/logger.py": "Logger.__init__ Logger.bind Logger.info Logger.warning Logger.exception Logger._write",
    "signals/logs/stdlib.py": "Handler.handle Handler.emit",
    "signals/tracing/global_provider.py": "ProxyTracerProvider.get_tracer ProxyTracer.__init__ ProxyTracer.start_span",
    "signals/tracing/span_context_manager.py": "start_as_current_span",
    "signals/tracing/provider.py": "Tracer.start_span Provider._pass_to_all",
    "signals/tracing/pipeline.py": "SpanPipeline.export_to.<locals>.export",
    "signals/tracing/span.py": "Span.set_attribute Span._get_user_attributes Span.add_event Span.record_exception Span.end",
    "signals/metrics/instruments.py": "Counter.add Histogram.record Gauge.set _SynchronousInstrument._get_host",
    "signals/metrics/gc_metrics.py": "GcMetrics.__call__",  # the garbage collector calls it at any point
    "context/operation_context.py": "bind",
    "context/propagation.py": "inject extract",
    "redaction/string_conversion.py": "safe_str",
    "telemetry/global_state.py": "get_logger",
    "work/jobs.py": "operation Job.run",
    "work/consumers.py": "Consumer.__call__.<locals>.run Consumer.process",
    "work/producers.py": "producer Producer.__init__ Producer.__enter__ Producer.begin Producer.__exit__ Producer.end",
    "work/options.py": "validate_name",
    "work/wrappers.py": "_wrap_function.<locals>.call _wrap_coroutine.<locals>.call _wrap_coroutine_with_deadline.<locals>.call "
    "_wrap_generator.<locals>.call _iterate _wrap_async_generator.<locals>.call "
    # A timeout is a feature that the application requests, not telemetry.
    "with_deadline _current_trio _current_task",
    # A run consists of assignments; begin, end and pause are one OpenTelemetry call each.
    "operations.py": "Operation.__init__",
    "work/run.py": "Run.__init__ Run.__enter__ Run.begin Run.resume Run.pause Run.__exit__ Run.end Run.deadline_ns",
}
THREAD_TARGETS = {"health/daemon_threads.py TimerThread._run", "asgi/lifespan.py _flush.<locals>.flush"}
"""Target functions of threads. They guard the functions that they call; faults are injected into those."""

USED_FOR_REPORTING = (
    "signals/metrics/",
    "signals/logs/",
    "telemetry/global_state.py",
    "telemetry/holder.py",
    "telemetry/telemetry.py",
    "vocabulary/attributes.py",
    "internal_telemetry.py",
    "redaction/",
    "testing/",
)
"""Modules that count and log internal errors, so that a fault in them may be neither counted nor logged."""
PASSED_TO_APPLICATION = {("probes", "asgi/endpoint_responder.py EndpointResponder.find_page")}
"""If routing of an endpoint fails, the request is passed to the application, which has no such route."""

ONLY_IN_FULL_RUN = {"failing request", "unknown path", "event stream"}
"""Scenarios that execute nearly the same functions as others."""

DEFAULT_STEP = 5
"""The default run injects faults into every fifth function, different ones in each scenario; the full run into all."""

FUNCTIONS_WITHOUT_FAULTS = {
    f"{file} {name}" for file, names in ENTRY_POINTS.items() for name in names.split()
} | THREAD_TARGETS
SECRET = "hunter2"


@contextmanager
def prepared_action(sink: HttpSink, scenario: Scenario) -> Iterator[tuple[Telemetry, Captured, Action]]:
    """Create the action of a scenario with a new process-wide Telemetry that exports to the sink."""
    with capture() as captured:
        settings = load_settings(
            {}, service="faults", otlp_endpoint=sink.url, tenant_header="x-tenant", request_headers=("x-seen",),
            response_headers=("x-answered",), trusted_proxies="127.0.0.0/8", span_schedule_delay=0.05, log_schedule_delay=0.05, shutdown_timeout=0.3,
        )  # fmt: skip
        telemetry = Telemetry(settings, output=CapturingLogWriter(captured), exports=True)
        telemetry_holder().telemetry = captured.telemetry = telemetry
        loop = asyncio.new_event_loop()
        try:
            yield telemetry, captured, scenario(telemetry, loop)
        finally:
            telemetry.shutdown(0.2)
            loop.close()


def test_every_listed_function_exists() -> None:
    listed = FUNCTIONS_WITHOUT_FAULTS | {function for _, function in PASSED_TO_APPLICATION}
    files = {file: qualified_names(file) for file in {function.partition(" ")[0] for function in listed}}
    missing = [function for function in sorted(listed) if function.split(" ")[1] not in files[function.split(" ")[0]]]
    assert missing == []
    assert [path for path in USED_FOR_REPORTING if not (Path(connectsoft_obs.__file__).parent / path).exists()] == []


def error_count(telemetry: Telemetry) -> float:
    return sum(child.cells[0] for child in telemetry.metrics.family(ERRORS).children.values())


def find_problem(sink: HttpSink, scenario: Scenario, code: CodeType, expected: object) -> str:
    """Inject a fault into a function; describe a changed result or a missing report, or return an empty string."""
    with prepared_action(sink, scenario) as (telemetry, captured, run_action):
        run_action()
        try:
            with inject_fault(code):
                result = run_action()
        except BaseException as error:
            result = repr(error)
        if result != expected:
            return f"changed: {result!r}"[:300]
        if run_action() != expected:
            return "does not work after the fault was removed"
        name = function_label(code)
        logged = [line for line in captured.logs if line["message"].startswith("connectsoft_obs failed internally")]
        reported = [
            (line["connectsoft.obs.where"], line["connectsoft.obs.error"].split(":")[0])
            for line in logged
            if "connectsoft.obs.where" in line
        ]
        if len(set(reported)) != len(reported):
            return f"logged more than once: {logged}"
        if SECRET in str(captured.logs):
            return "a secret was logged"
        if name.startswith(USED_FOR_REPORTING):
            return ""
        return "" if error_count(telemetry) and logged else f"counted {error_count(telemetry)}, logged {logged}"


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in ONLY_IN_FULL_RUN])
def test_fault_in_a_sampled_function_does_not_change_the_application(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_scenario(name, monkeypatch, DEFAULT_STEP)


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
def test_fault_in_any_function_does_not_change_the_application(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_scenario(name, monkeypatch, 1)


def check_scenario(name: str, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # a fault in the target of a thread ends the thread
    scenario = SCENARIOS[name]
    with HttpSink() as sink:
        with prepared_action(sink, scenario) as (_, _captured, run_action):
            expected = run_action()
            assert run_action() == expected, "the scenario is not repeatable"
            functions = [
                code for code in executed_functions(run_action) if function_label(code) not in FUNCTIONS_WITHOUT_FAULTS
            ]
        assert len(functions) >= 15
        functions = [code for code in functions if (name, function_label(code)) not in PASSED_TO_APPLICATION]
        functions = sorted(functions, key=function_label)[list(SCENARIOS).index(name) % step :: step]
        problems: dict[str, Any] = {
            function_label(code): find_problem(sink, scenario, code, expected) for code in functions
        }
    assert {function: problem for function, problem in problems.items() if problem} == {}


@pytest.mark.full
def test_fault_during_setup_does_not_change_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    scenario = SCENARIOS["request"]
    with HttpSink() as sink:
        with prepared_action(sink, scenario) as (_, _captured, run_action):
            expected = run_action()
        with prepared_action(sink, scenario) as (_, _captured, run_action):
            functions = [
                code for code in executed_functions(run_action) if function_label(code) not in FUNCTIONS_WITHOUT_FAULTS
            ]
        problems = {}
        for code in functions:
            with prepared_action(sink, scenario) as (_, _captured, run_action), inject_fault(code):
                result = run_action()
            if result != expected:
                problems[function_label(code)] = result
    assert len(functions) > 150
    assert sorted(problems) == []


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/startup", "/alive"])
def test_probes_are_answered_if_the_telemetry_cannot_be_created(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("'<' not supported between instances of 'int' and 'str'")

    app = Starlette(routes=[Route("/orders", lambda request: PlainTextResponse("orders"))])
    app.add_middleware(connectsoft_obs.ObservabilityMiddleware, service="orders-api")
    with capture():
        monkeypatch.setattr(Telemetry, "__init__", fail)
        with TestClient(app) as client:
            assert client.get(path).status_code == 200
            assert client.head(path).content == b""
            assert client.get("/orders").text == "orders"
            assert client.get("/other").status_code == 404
