"""Any step of ours may raise: response, exception and what the application does stay as they are; it is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from support.fault_injection import broken, label, names_in_source, steps
from support.fault_scenarios import SCENES, Act, Scene
from support.otlp import HttpSink

import connectsoft_obs
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry, telemetry_holder
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import _Kept
from connectsoft_obs.vocabulary import ERRORS

ENTRANCES = {
    # What the server, the framework or the standard library calls, and what applications call: whoever stands here
    # holds the guard. Their bodies are a few lines, and every function that they call is broken below.
    "asgi/middleware.py": "ObservabilityMiddleware.__init__ ObservabilityMiddleware.__call__ ObservabilityMiddleware._http "
    "ObservabilityMiddleware._serve_liveness_only ObservabilityMiddleware._wrap ObservabilityMiddleware._with_error_page "
    "ObservabilityMiddleware._install_outermost ObservabilityMiddleware._bind",
    "asgi/outermost.py": "Outermost.__call__",
    "asgi/instrumentation.py": "RequestInstrumentation.handle",
    "asgi/request.py": "HttpRequest.send HttpRequest.receive HttpRequest._on_response_start HttpRequest._on_last_byte",
    "asgi/websocket.py": "WebSocketRequest.send WebSocketRequest.receive",
    "asgi/endpoint_responder.py": "EndpointResponder.send EndpointResponder._asked EndpointResponder._in_thread EndpointResponder._in_thread.<locals>.<lambda> "
    "run_in_thread _call _call.<locals>.tell",
    "endpoints/messages.py": "EndpointResponse.all_headers",
    "endpoints/router.py": "_ProbePage.__call__",
    "asgi/lifespan.py": "Lifespan.__init__ Lifespan.run Lifespan._guarded Lifespan.run.<locals>.listened "
    "Lifespan.run.<locals>.told Lifespan._flushed",
    "signals/logs/logger.py": "Logger.__init__ Logger.bind Logger.info Logger.warning Logger.exception Logger._write",
    "signals/logs/stdlib.py": "Handler.handle Handler.emit",
    "signals/tracing/global_provider.py": "ProxyTracerProvider.get_tracer ProxyTracer.__init__ ProxyTracer.start_span",
    "signals/tracing/current_span.py": "start_as_current_span",
    "signals/tracing/provider.py": "Tracer.start_span Provider._to_all",
    "signals/tracing/tracing.py": "Tracing.export_to.<locals>.export",
    "signals/tracing/span.py": "Span.set_attribute Span._attributes_of_user Span.add_event Span.record_exception Span.end",
    "signals/metrics/instruments.py": "Counter.add Histogram.record Gauge.set _Recorder._owner",
    "signals/metrics/gc_metrics.py": "GcMetrics.__call__",  # the interpreter's, in the middle of anything
    "context/current.py": "bind",
    "context/propagation.py": "inject extract",
    "telemetry/global_state.py": "get_logger",
    "work/jobs.py": "operation Job.run",
    "work/consumers.py": "Consumer.__call__.<locals>.run Consumer.span_name",
    "work/producers.py": "producer Producer.__init__ Producer.__enter__ Producer.begin Producer.__exit__ Producer.end",
    "work/options.py": "validate_name",
    "work/wrappers.py": "_plain.<locals>.call _coroutine.<locals>.call _limited_coroutine.<locals>.call "
    "_generator.<locals>.call _steps _async_generator.<locals>.call "
    # A time limit is something that the application has asked for, and no telemetry.
    "with_deadline _trio _task",
    # A run is made of assignments; it is entered, left and paused by one call of OpenTelemetry's each.
    "operations.py": "Operation.__init__",
    "work/run.py": "Run.__init__ Run.__enter__ Run.begin Run.resume Run.pause Run.__exit__ Run.end Run.deadline_ns",
}
THREADS = {"health/timer_thread.py TimerThread._run", "asgi/lifespan.py Lifespan._flushed.<locals>.flush"}
"""First functions of threads: what they call is guarded, and broken here."""

SAYS = (
    "signals/metrics/",
    "signals/logs/",
    "telemetry/global_state.py",
    "telemetry/telemetry.py",
    "internal_telemetry.py",
    "testing/",
)
"""What counting and saying themselves are made of, and what has an answer of its own where a value cannot be shown."""
OWN_ANSWER = {"health/loop_watchdog.py LoopWatchdog.problem"}
LEFT_TO_THE_APPLICATION = {("probes", "asgi/endpoint_responder.py EndpointResponder.page")}
"""Whoever cannot say whether a path is ours leaves it to the application, which has no such route."""

LONG = {"failing request", "unknown path", "event stream"}
"""Much the same steps as those of the others."""

SHORT = 3
"""The ordinary run breaks every third step of a scene, others in each scene; the long run all of them."""

_ENTRANCES = {f"{file} {name}" for file, names in ENTRANCES.items() for name in names.split()} | THREADS
SECRET = "hunter2"


@contextmanager
def stage(sink: HttpSink, scene: Scene) -> Iterator[tuple[Telemetry, Captured, Act]]:
    """A scene with a Telemetry of its own that exports for real; it is the process's meanwhile."""
    with capture() as seen:
        settings = load_settings(
            {}, service="fire", otlp_endpoint=sink.url, tenant_header="x-tenant", request_headers=("x-seen",),
            response_headers=("x-answered",), trusted_proxies="127.0.0.0/8", span_schedule_delay=0.05, log_schedule_delay=0.05, shutdown_timeout=0.3,
        )  # fmt: skip
        telemetry = Telemetry(settings, output=_Kept(seen), exports=True)
        telemetry_holder().telemetry = seen.telemetry = telemetry
        loop = asyncio.new_event_loop()
        try:
            yield telemetry, seen, scene(telemetry, loop)
        finally:
            telemetry.shutdown(0.2)
            loop.close()


def test_every_step_named_here_exists() -> None:
    named = _ENTRANCES | OWN_ANSWER | {step for _, step in LEFT_TO_THE_APPLICATION}
    files = {file: names_in_source(file) for file in {step.partition(" ")[0] for step in named}}
    assert [step for step in sorted(named) if step.partition(" ")[2] not in files[step.partition(" ")[0]]] == []
    assert [path for path in SAYS if not (Path(connectsoft_obs.__file__).parent / path).exists()] == []


def counted(telemetry: Telemetry) -> float:
    return sum(child.cells[0] for child in telemetry.metrics.family(ERRORS).children.values())


def problem(sink: HttpSink, scene: Scene, code: CodeType, expected: object) -> str:
    """What breaking one step changes that it must not; empty for nothing."""
    with stage(sink, scene) as (telemetry, seen, act):
        act()
        try:
            with broken(code):
                found = act()
        except BaseException as error:
            found = repr(error)
        if found != expected:
            return f"changed: {found!r}"[:300]
        if act() != expected:
            return "does not work again"
        name = label(code)
        said = [line for line in seen.logs if line["message"].startswith("connectsoft_obs failed internally")]
        kinds = [(line["where"], line["error"].split(":")[0]) for line in said if "where" in line]
        if len(set(kinds)) != len(kinds):
            return f"said more than once: {said}"
        if SECRET in str(seen.logs):
            return "a secret was written"
        if name.startswith(SAYS) or name in OWN_ANSWER:
            return ""
        return "" if counted(telemetry) and said else f"counted {counted(telemetry)}, said {said}"


@pytest.mark.parametrize("name", [name for name in SCENES if name not in LONG])
def test_steps_of_ours_may_raise_and_nobody_else_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_steps(name, monkeypatch, SHORT)


@pytest.mark.full
@pytest.mark.parametrize("name", SCENES)
def test_any_step_of_ours_may_raise_and_nobody_else_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_steps(name, monkeypatch, 1)


def break_steps(name: str, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # a thread that is broken from its start ends
    scene = SCENES[name]
    with HttpSink() as sink:
        with stage(sink, scene) as (_, _seen, act):
            expected = act()
            assert act() == expected, "the scene itself is not the same twice"
            found = [code for code in steps(act) if label(code) not in _ENTRANCES]
        assert len(found) > 20
        found = [code for code in found if (name, label(code)) not in LEFT_TO_THE_APPLICATION]
        found = sorted(found, key=label)[list(SCENES).index(name) % every :: every]
        problems: dict[str, Any] = {label(code): problem(sink, scene, code, expected) for code in found}
    assert {step: said for step, said in problems.items() if said} == {}


@pytest.mark.full
def test_a_first_request_is_served_whatever_fails_in_making_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    scene = SCENES["request"]
    with HttpSink() as sink:
        with stage(sink, scene) as (_, _seen, act):
            expected = act()
        with stage(sink, scene) as (_, _seen, act):
            found = [code for code in steps(act) if label(code) not in _ENTRANCES]
        problems = {}
        for code in found:
            with stage(sink, scene) as (_, _seen, act), broken(code):
                first = act()
            if first != expected:
                problems[label(code)] = first
    assert len(found) > 150
    assert sorted(problems) == []
