"""Job decorator: every kind of function, all four signals, and no change for the caller."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
import time
import types
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


@obs.job("nightly-report", trigger="timer")
async def report(day: str, *, pages: int = 3) -> str:
    """Write the report."""
    return f"{day}/{pages}"


@obs.job
def tidy(count: int) -> int:
    return count + 1


class Importer:
    @obs.job
    def run(self, number: int) -> tuple[Importer, int]:
        return self, number

    @classmethod
    @obs.job("inside-classmethod")
    def inside(cls, number: int) -> tuple[type, int]:
        return cls, number

    @obs.job("outside-classmethod")
    @classmethod
    def outside(cls, number: int) -> tuple[type, int]:
        return cls, number

    @obs.job("static")
    @staticmethod
    async def static(number: int) -> int:
        return number


class AsyncCallable:
    async def __call__(self, number: int) -> int:
        return number


def test_run_records_one_span_one_sample_and_one_log_line() -> None:
    with capture() as captured:
        assert asyncio.run(report("monday", pages=4)) == "monday/4"
    [span] = captured.spans
    assert (span.name, span.kind, span.status.status_code) == (
        "run nightly-report",
        SpanKind.CONSUMER,
        StatusCode.UNSET,
    )
    assert span.parent is None
    assert dict(span.attributes or {}) == {
        "connectsoft.job.name": "nightly-report",
        "connectsoft.job.trigger": "timer",
        "connectsoft.outcome": "success",
    }
    [line] = captured.logs
    assert (line["severity"], line["message"], line["logger"]) == (
        "INFO",
        "run nightly-report success",
        "connectsoft_obs.job",
    )
    assert line["trace_id"] == f"{span.context.trace_id:032x}"
    duration = captured.metric(
        "connectsoft.job.duration",
        connectsoft_job_name="nightly-report",
        connectsoft_job_trigger="timer",
        connectsoft_outcome="success",
    )
    assert duration.count == 1
    nanoseconds = (span.end_time or 0) - (span.start_time or 0)
    assert duration.sum == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    assert line["connectsoft.job.duration"] == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    assert duration.exemplars[0].trace_id == span.context.trace_id
    assert captured.metric("connectsoft.job.active").value == 0
    assert captured.metric("connectsoft.job.last_run.timestamp").value == pytest.approx(time.time(), abs=1)
    assert captured.metric("connectsoft.job.last_success.timestamp").value == pytest.approx(time.time(), abs=1)


def test_decorator_preserves_signature_and_function_kind() -> None:
    @obs.job
    def steps(n: int) -> Any:
        yield n

    @obs.job("async-steps")
    async def async_steps(n: int) -> Any:
        yield n

    assert str(inspect.signature(report)) == "(day: 'str', *, pages: 'int' = 3) -> 'str'"
    assert (report.__name__, report.__doc__, report.__module__) == ("report", "Write the report.", __name__)
    assert inspect.iscoroutinefunction(report)
    assert not inspect.iscoroutinefunction(tidy)
    assert inspect.isgeneratorfunction(steps)
    assert inspect.isasyncgenfunction(async_steps)
    assert inspect.iscoroutinefunction(Importer.static)


def test_methods_partials_and_callables_can_be_jobs() -> None:
    importer = Importer()
    with capture() as captured:
        assert importer.run(1) == (importer, 1)
        assert Importer.inside(2) == (Importer, 2)
        assert Importer.outside(3) == (Importer, 3)
        assert importer.outside(3) == (Importer, 3)
        assert asyncio.run(Importer.static(4)) == 4
        assert obs.job(functools.partial(tidy.__wrapped__, 5))() == 6  # type: ignore[attr-defined]
        partial_job = obs.job("partial-async")(functools.partial(report.__wrapped__, "sunday"))  # type: ignore[attr-defined]
        assert inspect.iscoroutinefunction(partial_job)
        assert asyncio.run(partial_job(pages=1)) == "sunday/1"
        assert asyncio.run(obs.job("callable")(AsyncCallable())(7)) == 7
        assert obs.job("builtin")(len)([1, 2]) == 2
    assert [span.name for span in captured.spans] == [
        "run Importer.run",
        "run inside-classmethod",
        "run outside-classmethod",
        "run outside-classmethod",
        "run static",
        "run tidy",
        "run partial-async",
        "run callable",
        "run builtin",
    ]


def test_job_without_a_name_uses_the_function_name() -> None:
    with capture() as captured:
        tidy(1)
    captured.span("run tidy", connectsoft_job_trigger="other")


def test_nested_job_and_job_inside_a_span_are_internal() -> None:
    @obs.job("outer")
    async def outer() -> None:
        obs.bind(tenant_id="acme")
        await report("monday")

    with capture() as captured:
        asyncio.run(outer())
        with trace.get_tracer("application").start_as_current_span("manual"):
            tidy(1)
    inner_span, outer_span, tidy_span, manual_span = captured.spans
    assert (inner_span.name, inner_span.kind, outer_span.kind) == (
        "run nightly-report",
        SpanKind.INTERNAL,
        SpanKind.CONSUMER,
    )
    assert inner_span.parent == outer_span.context
    assert (tidy_span.kind, tidy_span.parent) == (SpanKind.INTERNAL, manual_span.context)
    assert (inner_span.attributes or {})["connectsoft.tenant.id"] == "acme"
    assert {line["connectsoft.tenant.id"] for line in captured.logs[:2]} == {"acme"}


def test_bound_context_applies_to_log_lines_of_the_run_only() -> None:
    log = obs.get_logger("application")

    @obs.job("bound")
    def bound() -> None:
        obs.bind(order_id=42)
        log.info("inside")

    with capture() as captured:
        bound()
        log.info("after")
    assert captured.log("inside")["order_id"] == 42
    assert captured.log("inside")["trace_id"] == captured.log("run bound success")["trace_id"]
    assert not {"order_id", "trace_id"} & captured.log("after").keys()


def test_arguments_are_recorded_only_if_listed_and_results_never() -> None:
    @obs.job("without-record")
    def without_record(secret: str) -> str:
        return f"result-{secret}"

    @obs.job("with-record", record=("day", "tenant_id", "limit"))
    def with_record(day: str, secret: str, *, tenant_id: str, limit: int = 5) -> None:
        pass

    with capture() as captured:
        without_record("s3cret")
        with_record("monday", "s3cret", tenant_id="acme")
    spans_and_logs = f"{[dict(span.attributes or {}) for span in captured.spans]} {captured.logs}"
    assert "s3cret" not in spans_and_logs
    span = captured.span("run with-record", day="monday", connectsoft_tenant_id="acme", limit=5)
    assert "secret" not in (span.attributes or {})
    assert captured.log("run with-record success")["day"] == "monday"
    for snapshot in captured.telemetry.metrics.snapshots() if captured.telemetry else ():
        assert "monday" not in str(list(snapshot.series))


def test_invalid_call_raises_the_type_error_of_the_function() -> None:
    @obs.job("with-record", record=("day",))
    def with_record(day: str) -> None:
        pass

    with capture() as captured, pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        with_record(unknown=1)  # type: ignore[call-arg]
    captured.span("run with-record", connectsoft_outcome="failure", error_type="TypeError")
    assert captured.metric("connectsoft.obs.errors").value == 0


def test_recorded_arguments_are_converted_to_plain_values() -> None:
    @obs.job("with-record", record=("day", "default"))
    def with_record(day: object, default: object = None) -> None:
        pass

    with capture() as captured:
        with_record(["a", "list"])
    assert (captured.span().attributes or {})["day"] == "['a', 'list']"
    assert captured.log()["default"] is None


@pytest.mark.parametrize("sampler", ["always_off", "always_on"])
def test_log_lines_carry_the_trace_id_with_and_without_sampling(sampler: str) -> None:
    with capture(traces_sampler=sampler) as captured:
        tidy(1)
    assert len(captured.spans) == (sampler == "always_on")
    assert len(captured.log("run tidy success")["trace_id"]) == 32
    exemplars = captured.metric("connectsoft.job.duration").exemplars
    assert bool(exemplars) == (sampler == "always_on")


def test_nested_captures_contain_only_their_own_runs() -> None:
    with capture() as outer:
        tidy(1)
        with capture() as inner:
            tidy(2)
            tidy(3)
        tidy(4)
    assert (len(outer.spans), len(inner.spans)) == (2, 2)
    assert outer.metric("connectsoft.job.duration").count == 2


def test_concurrent_runs_are_counted_and_shown_by_the_active_gauge() -> None:
    entered = threading.Semaphore(0)
    release = threading.Event()

    @obs.job("parallel")
    def parallel() -> None:
        entered.release()
        assert release.wait(10)

    with capture() as captured:
        tidy(0)
        threads = [threading.Thread(target=parallel) for _ in range(16)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert entered.acquire(timeout=10)
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="parallel").value == 16
        release.set()
        for thread in threads:
            thread.join(10)
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="parallel").value == 0
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="parallel").count == 16
    assert len({span.context.trace_id for span in captured.spans}) == 17


def test_success_series_exists_with_value_zero_before_the_first_success() -> None:
    with capture() as captured:

        @obs.job("fails-first")
        def fails() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            fails()
        successes = captured.metric(
            "connectsoft.job.duration", connectsoft_job_name="fails-first", connectsoft_outcome="success"
        )
    assert len(successes.series) == 1
    assert successes.count == 0


def test_sync_function_that_returns_a_coroutine_logs_one_warning() -> None:
    @obs.job("returns-coroutine")
    def returns_coroutine() -> Any:
        return report("monday")

    with capture() as captured:
        assert asyncio.run(returns_coroutine()) == "monday/3"
        asyncio.run(returns_coroutine())
    assert len([line for line in captured.logs if "returned an awaitable" in line["message"]]) == 1


def test_disabled_telemetry_does_not_change_the_function() -> None:
    with capture(disabled=True) as captured:
        assert tidy(1) == 2
        assert asyncio.run(report("monday")) == "monday/3"
        with obs.operation("block"):
            pass
    assert (captured.spans, captured.logs) == ([], [])


def test_access_log_setting_selects_the_log_lines_of_runs() -> None:
    def run_jobs() -> None:
        tidy(1)
        with pytest.raises(ZeroDivisionError):
            obs.job("divides")(lambda: 1 / 0)()

    messages = {}
    for setting in ("all", "errors", "off"):
        with capture(access_log=setting) as captured:
            run_jobs()
        messages[setting] = [line["message"] for line in captured.logs]
    assert messages["all"] == ["run tidy success", "run divides failure"]
    assert messages["errors"] == ["run divides failure"]
    assert messages["off"] == ["run divides failure"], "an exception is logged once with every setting"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "must be greater than 0"),
        ({"timeout": -1}, "must be greater than 0"),
        ({"schedule": "every day"}, "not a cron expression"),
        ({"schedule": "61 * * * *"}, "not a cron expression"),
        ({"schedule": "0 2 * * *", "timezone": "Mars/Olympus"}, "unknown time zone"),
        ({"schedule": "0 2 * * *", "grace": -1}, "must not be negative"),
        ({"record": ("unknown",)}, "no argument 'unknown'"),
        ({"attempt": "unknown"}, "no argument 'unknown'"),
        ({"rejects": "ValueError"}, "not an exception class"),
    ],
)
def test_invalid_arguments_raise_configuration_error_at_declaration(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=message):

        @obs.job("invalid", **arguments)
        def invalid(day: str) -> None:
            pass


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 201])
def test_invalid_job_names_raise_configuration_error(name: str) -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.job(name)(lambda: None)


def test_class_as_a_job_raises_configuration_error() -> None:
    with pytest.raises(obs.ConfigurationError, match="not a function"):
        obs.job("class")(Importer)


def test_invalid_settings_do_not_stop_a_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONNECTSOFT_OBS_ACCESS_LOG", "sometimes")
    with capture():
        assert tidy(1) == 2
        assert tidy(2) == 3
    error_output = capsys.readouterr().err
    assert error_output.count("CRITICAL invalid configuration of connectsoft_obs: CONNECTSOFT_OBS_ACCESS_LOG") == 1


@types.coroutine
def generator_coroutine(fail: bool) -> Any:
    yield from asyncio.sleep(0.05).__await__()
    if fail:
        raise ValueError
    return 1


class SlowCallable:
    async def __call__(self, fail: bool) -> int:
        await asyncio.sleep(0.05)
        if fail:
            raise ValueError
        return 1


@pytest.mark.parametrize("timeout", [None, 10.0])
@pytest.mark.parametrize(
    "function",
    [
        SlowCallable(),
        functools.partial(SlowCallable()),
        functools.partial(SlowCallable().__call__),
        generator_coroutine,
    ],
    ids=["object", "partial of object", "partial of method", "types.coroutine"],
)
def test_run_of_an_awaitable_callable_covers_the_awaited_work(function: Any, timeout: float | None) -> None:
    decorated = obs.job("slow", timeout=timeout)(function)
    observed = obs.consumer("slow", system="redis", headers=lambda _: {}, timeout=timeout)(function)

    async def call(decorated_function: Any, fail: bool) -> Any:
        return await decorated_function(fail)

    with capture() as captured:
        assert asyncio.run(call(decorated, False)) == 1
        with pytest.raises(ValueError):  # noqa: PT011  has no text
            asyncio.run(call(decorated, True))
        assert asyncio.run(call(observed, False)) == 1
    runs = [span for span in captured.spans if span.name == "run slow"]
    assert [span.attributes["connectsoft.outcome"] for span in runs if span.attributes] == ["success", "failure"]
    assert all((span.end_time or 0) - (span.start_time or 0) >= 40_000_000 for span in captured.spans)


def test_function_that_returns_an_awaitable_object_is_reported() -> None:
    class Handle:
        def __await__(self) -> Any:
            return asyncio.sleep(0).__await__()

    with capture() as captured:
        obs.job("start")(lambda: Handle())()
    message = "function returned an awaitable; the run covers only the call, not the awaited work"
    assert captured.log(message)["severity"] == "WARN"


pickled_counter = obs.counter("jobs.pickled")


@obs.job("pickled")
def pickled_job(number: int) -> int:
    pickled_counter.add(1)
    return number


@pytest.mark.parametrize(
    "copied",
    [lambda value: cloudpickle.loads(cloudpickle.dumps(value)), copy.deepcopy],
    ids=["cloudpickle", "deepcopy"],
)
def test_used_objects_can_be_copied_between_processes(copied: Any) -> None:
    @obs.job("local", record=("number",))
    def local_job(number: int) -> int:
        pickled_counter.add(1)
        return number

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    consumer = obs.consumer("orders", system="redis")
    middleware = obs.ObservabilityMiddleware(app, service="orders")
    scope = {"type": "http", "path": "/", "method": "GET", "scheme": "http", "http_version": "1.1", "headers": []}
    with capture() as captured:
        for round_trip in (lambda value: value, copied):
            assert round_trip(local_job)(1) == 1
            assert round_trip(pickled_job)(1) == 1
            with round_trip(consumer).process({}):
                round_trip(pickled_counter).add(1)
            asyncio.run(round_trip(middleware)(dict(scope), None, None))
        pickle.loads(pickle.dumps(pickled_job))(1)  # noqa: S301  own data
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="local").count == 2
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="pickled").count == 3
    assert captured.metric("messaging.process.duration").count == 2
    assert captured.metric("jobs.pickled").value == 7
    assert captured.metric("http.server.request.duration").count == 2
