"""A job by one decorator: every kind of function, four signals, and nothing changed for whoever calls it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from typing import Any

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


class Callable_:
    async def __call__(self, number: int) -> int:
        return number


def test_one_run_is_one_span_one_sample_and_one_line() -> None:
    with capture() as seen:
        assert asyncio.run(report("monday", pages=4)) == "monday/4"
    [span] = seen.spans
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
    [line] = seen.logs
    assert (line["severity"], line["message"], line["logger"]) == (
        "INFO",
        "run nightly-report success",
        "connectsoft_obs.job",
    )
    assert line["trace_id"] == f"{span.context.trace_id:032x}"
    measured = seen.metric(
        "connectsoft.job.duration",
        connectsoft_job_name="nightly-report",
        connectsoft_job_trigger="timer",
        connectsoft_outcome="success",
    )
    assert measured.count == 1
    nanoseconds = (span.end_time or 0) - (span.start_time or 0)
    assert measured.sum == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    assert line["connectsoft.job.duration"] == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    assert measured.exemplars[0].trace_id == span.context.trace_id
    assert seen.metric("connectsoft.job.active").value == 0
    assert seen.metric("connectsoft.job.last_run.timestamp").value == pytest.approx(time.time(), abs=1)
    assert seen.metric("connectsoft.job.last_success.timestamp").value == pytest.approx(time.time(), abs=1)


def test_the_function_keeps_its_signature_and_its_kind() -> None:
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


def test_methods_classmethods_staticmethods_partials_and_callables_are_jobs() -> None:
    importer = Importer()
    with capture() as seen:
        assert importer.run(1) == (importer, 1)
        assert Importer.inside(2) == (Importer, 2)
        assert Importer.outside(3) == (Importer, 3)
        assert importer.outside(3) == (Importer, 3)
        assert asyncio.run(Importer.static(4)) == 4
        assert obs.job(functools.partial(tidy.__wrapped__, 5))() == 6  # type: ignore[attr-defined]
        wrapped = obs.job("partial-async")(functools.partial(report.__wrapped__, "sunday"))  # type: ignore[attr-defined]
        assert inspect.iscoroutinefunction(wrapped)
        assert asyncio.run(wrapped(pages=1)) == "sunday/1"
        assert asyncio.run(obs.job("callable")(Callable_())(7)) == 7
        assert obs.job("builtin")(len)([1, 2]) == 2
    assert [span.name for span in seen.spans] == [
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


def test_a_bare_job_is_called_what_the_function_is_called() -> None:
    with capture() as seen:
        tidy(1)
    seen.span("run tidy", connectsoft_job_trigger="other")


def test_jobs_nest_and_a_job_inside_a_span_is_internal() -> None:
    @obs.job("outer")
    async def outer() -> None:
        obs.bind(tenant_id="acme")
        await report("monday")

    with capture() as seen:
        asyncio.run(outer())
        with trace.get_tracer("mine").start_as_current_span("by hand"):
            tidy(1)
    inner, whole, tidied, by_hand = seen.spans
    assert (inner.name, inner.kind, whole.kind) == ("run nightly-report", SpanKind.INTERNAL, SpanKind.CONSUMER)
    assert inner.parent == whole.context
    assert (tidied.kind, tidied.parent) == (SpanKind.INTERNAL, by_hand.context)
    assert (inner.attributes or {})["connectsoft.tenant.id"] == "acme"
    assert {line["connectsoft.tenant.id"] for line in seen.logs[:2]} == {"acme"}


def test_what_is_bound_and_said_inside_belongs_to_the_run_and_not_to_what_comes_after() -> None:
    log = obs.get_logger("mine")

    @obs.job("bound")
    def bound() -> None:
        obs.bind(order_id=42)
        log.info("inside")

    with capture() as seen:
        bound()
        log.info("after")
    assert seen.log("inside")["order_id"] == 42
    assert seen.log("inside")["trace_id"] == seen.log("run bound success")["trace_id"]
    assert not {"order_id", "trace_id"} & seen.log("after").keys()


def test_no_argument_and_no_result_is_recorded_unless_asked() -> None:
    @obs.job("silent")
    def silent(secret: str) -> str:
        return f"result-{secret}"

    @obs.job("asked", record=("day", "tenant_id", "limit"))
    def asked(day: str, secret: str, *, tenant_id: str, limit: int = 5) -> None:
        pass

    with capture() as seen:
        silent("s3cret")
        asked("monday", "s3cret", tenant_id="acme")
    everything = f"{[dict(span.attributes or {}) for span in seen.spans]} {seen.logs}"
    assert "s3cret" not in everything
    span = seen.span("run asked", day="monday", connectsoft_tenant_id="acme", limit=5)
    assert "secret" not in (span.attributes or {})
    assert seen.log("run asked success")["day"] == "monday"
    for snapshot in seen.telemetry.metrics.snapshots() if seen.telemetry else ():
        assert "monday" not in str(list(snapshot.series))


def test_a_call_that_the_function_refuses_is_refused_as_without_us() -> None:
    @obs.job("asked", record=("day",))
    def asked(day: str) -> None:
        pass

    with capture() as seen, pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        asked(nothing=1)  # type: ignore[call-arg]
    seen.span("run asked", connectsoft_outcome="failure", error_type="TypeError")
    assert seen.metric("connectsoft.obs.errors").value == 0


def test_values_of_recorded_arguments_are_plain() -> None:
    @obs.job("asked", record=("day", "nothing"))
    def asked(day: object, nothing: object = None) -> None:
        pass

    with capture() as seen:
        asked(["a", "list"])
    assert (seen.span().attributes or {})["day"] == "['a', 'list']"
    assert seen.log()["nothing"] is None


@pytest.mark.parametrize("sampler", ["always_off", "always_on"])
def test_a_run_names_its_trace_in_its_lines_sampled_or_not(sampler: str) -> None:
    with capture(traces_sampler=sampler) as seen:
        tidy(1)
    assert len(seen.spans) == (sampler == "always_on")
    assert len(seen.log("run tidy success")["trace_id"]) == 32
    exemplars = seen.metric("connectsoft.job.duration").exemplars
    assert bool(exemplars) == (sampler == "always_on")


def test_each_capture_sees_the_runs_inside_it_and_no_others() -> None:
    with capture() as first:
        tidy(1)
        with capture() as second:
            tidy(2)
            tidy(3)
        tidy(4)
    assert (len(first.spans), len(second.spans)) == (2, 2)
    assert first.metric("connectsoft.job.duration").count == 2


def test_runs_at_the_same_time_count_once_each_and_the_gauge_shows_them() -> None:
    entered = threading.Semaphore(0)
    release = threading.Event()

    @obs.job("parallel")
    def parallel() -> None:
        entered.release()
        assert release.wait(10)

    with capture() as seen:
        tidy(0)
        threads = [threading.Thread(target=parallel) for _ in range(16)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert entered.acquire(timeout=10)
        assert seen.metric("connectsoft.job.active", connectsoft_job_name="parallel").value == 16
        release.set()
        for thread in threads:
            thread.join(10)
        assert seen.metric("connectsoft.job.active", connectsoft_job_name="parallel").value == 0
        assert seen.metric("connectsoft.job.duration", connectsoft_job_name="parallel").count == 16
    assert len({span.context.trace_id for span in seen.spans}) == 17


def test_a_known_job_counts_zero_before_its_second_outcome_so_that_rates_see_the_first() -> None:
    with capture() as seen:

        @obs.job("fails-first")
        def fails() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            fails()
        succeeded = seen.metric(
            "connectsoft.job.duration", connectsoft_job_name="fails-first", connectsoft_outcome="success"
        )
    assert len(succeeded.series) == 1
    assert succeeded.count == 0


def test_a_plain_function_that_returns_a_coroutine_is_told_about_once() -> None:
    @obs.job("half")
    def half() -> Any:
        return report("monday")

    with capture() as seen:
        assert asyncio.run(half()) == "monday/3"
        asyncio.run(half())
    assert len([line for line in seen.logs if "returned a coroutine" in line["message"]]) == 1


def test_a_disabled_sdk_leaves_the_function_alone() -> None:
    with capture(disabled=True) as seen:
        assert tidy(1) == 2
        assert asyncio.run(report("monday")) == "monday/3"
        with obs.operation("block"):
            pass
    assert (seen.spans, seen.logs) == ([], [])


def test_the_lines_of_runs_follow_the_setting() -> None:
    def work() -> None:
        tidy(1)
        with pytest.raises(ZeroDivisionError):
            obs.job("divides")(lambda: 1 / 0)()

    messages = {}
    for setting in ("all", "errors", "off"):
        with capture(access_log=setting) as seen:
            work()
        messages[setting] = [line["message"] for line in seen.logs]
    assert messages["all"] == ["run tidy success", "run divides failure"]
    assert messages["errors"] == ["run divides failure"]
    assert messages["off"] == ["run divides failure"], "an exception is said once, whatever lines are wanted"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"timeout": 0}, "must be greater than 0"),
        ({"timeout": -1}, "must be greater than 0"),
        ({"schedule": "every day"}, "not a cron expression"),
        ({"schedule": "61 * * * *"}, "not a cron expression"),
        ({"schedule": "0 2 * * *", "timezone": "Mars/Olympus"}, "unknown time zone"),
        ({"schedule": "0 2 * * *", "grace": -1}, "must not be negative"),
        ({"record": ("nothing",)}, "no argument 'nothing'"),
        ({"attempt": "nothing"}, "no argument 'nothing'"),
        ({"rejects": "ValueError"}, "not an exception class"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=text):

        @obs.job("refused", **arguments)
        def refused(day: str) -> None:
            pass


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 201])
def test_names_that_are_no_labels_are_refused(name: str) -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.job(name)(lambda: None)


def test_a_class_is_no_job() -> None:
    with pytest.raises(obs.ConfigurationError, match="not a function"):
        obs.job("class")(Importer)


def test_settings_that_cannot_work_never_stop_a_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONNECTSOFT_OBS_ACCESS_LOG", "sometimes")
    with capture():
        assert tidy(1) == 2
        assert tidy(2) == 3
    said = capsys.readouterr().err
    assert said.count("CRITICAL connectsoft_obs: CONNECTSOFT_OBS_ACCESS_LOG") == 1
