"""`span` and `traced`: a plain span for a block or function, without metrics and without a log line."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, get_value, set_value
from opentelemetry.trace import SpanKind, StatusCode
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.telemetry import telemetry_holder
from connectsoft_obs.testing import Captured, capture


def span_attributes(captured: Captured, name: str) -> dict[str, Any]:
    return dict(captured.span(name).attributes or {})


def test_block_is_an_internal_child_span_without_metric_or_line() -> None:
    with capture() as captured, obs.operation("import-orders"):
        before = [line for line in captured.logs if line["logger"] != "connectsoft_obs"]
        with obs.span("price", total=99.5, tenant_id="acme") as current:
            assert trace.get_current_span() is current
            current.set_attribute("currency", "EUR")
        assert [line for line in captured.logs if line["logger"] != "connectsoft_obs"] == before
    parent, child = captured.span("run import-orders"), captured.span("price")
    assert child.kind is SpanKind.INTERNAL
    assert child.parent is not None
    assert child.parent.span_id == parent.context.span_id
    assert child.status.status_code is StatusCode.UNSET
    assert dict(child.attributes or {}) == {"total": 99.5, "connectsoft.tenant.id": "acme", "currency": "EUR"}
    assert captured.metric("connectsoft.job.duration", connectsoft_job_name="price").count == 0


def test_exception_propagates_and_sets_the_status_to_error() -> None:
    error = ValueError("invalid token=s3cret")
    with capture() as captured, pytest.raises(ValueError, match="invalid") as raised, obs.span("price"):
        raise error
    assert raised.value is error
    status = captured.span("price").status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "invalid token=REDACTED")
    assert span_attributes(captured, "price") == {"error.type": "ValueError"}
    assert captured.span("price").events == ()


def test_cancellation_is_no_error() -> None:
    with capture() as captured, pytest.raises(asyncio.CancelledError), obs.span("price"):
        raise asyncio.CancelledError
    assert captured.span("price").status.status_code is StatusCode.UNSET
    assert span_attributes(captured, "price") == {"error.type": "cancelled"}


def test_secrets_in_attributes_are_redacted() -> None:
    with capture() as captured, obs.span("login", password="s3cret", note="token=s3cret"):
        pass
    assert span_attributes(captured, "login") == {"password": "REDACTED", "note": "token=REDACTED"}


def test_log_lines_in_a_block_have_its_span_id() -> None:
    with capture() as captured, obs.operation("import-orders"), obs.span("price"):
        obs.get_logger("app").info("priced")
    assert captured.log("priced")["span_id"] == f"{captured.span('price').context.span_id:016x}"


@obs.traced
def add(left: int, right: int = 2) -> int:
    """Add."""
    return left + right


@obs.traced("load", kind="order")
async def load(number: int) -> int:
    await asyncio.sleep(0)
    return number


@obs.span("numbers", step=1)
def numbers() -> Generator[int, None, str]:
    with obs.span("inner"):
        yield 1
    yield 2
    return "end"


@obs.traced
async def async_numbers() -> AsyncGenerator[int]:
    yield 1
    yield 2


class Shop:
    @obs.traced
    def method(self) -> str:
        return "method"

    @obs.traced
    @classmethod
    def class_method(cls) -> str:
        return cls.__name__

    @obs.traced("static")
    @staticmethod
    def static_method() -> str:
        return "static"


def test_traced_records_functions_of_every_kind() -> None:
    async def run() -> list[int]:
        return [await load(3), *[number async for number in async_numbers()]]

    with capture() as captured:
        assert add(1) == 3
        assert asyncio.run(run()) == [3, 1, 2]
        assert list(numbers()) == [1, 2]
        assert (Shop().method(), Shop.class_method(), Shop.static_method()) == ("method", "Shop", "static")
    names = [span.name for span in captured.spans]
    assert names == ["add", "load", "async_numbers", "inner", "numbers", "Shop.method", "Shop.class_method", "static"]
    assert span_attributes(captured, "load") == {"kind": "order"}
    inner = captured.span("inner").parent
    assert inner is not None
    assert inner.span_id == captured.span("numbers").context.span_id
    assert {span.status.status_code for span in captured.spans} == {StatusCode.UNSET}


def test_traced_keeps_kind_signature_and_documentation() -> None:
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert list(inspect.signature(add).parameters) == ["left", "right"]
    assert inspect.iscoroutinefunction(load)
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(async_numbers)


def test_span_of_a_generator_is_current_only_while_it_runs() -> None:
    with capture() as captured, obs.span("outer") as outer:
        generator = numbers()
        next(generator)
        assert trace.get_current_span() is outer
        generator.close()
        assert trace.get_current_span() is outer
    assert [span.name for span in captured.spans] == ["inner", "numbers", "outer"]
    assert span_attributes(captured, "numbers") == {"step": 1}
    assert span_attributes(captured, "inner") == {}, "a caller that stops to iterate is no error"


def test_context_that_a_traced_generator_sets_is_kept_between_its_steps() -> None:
    @obs.traced
    def steps() -> Generator[object]:
        attach(set_value("tenant", "acme"))
        yield None
        yield get_value("tenant")

    with capture(), obs.span("outer"):
        generator = steps()
        next(generator)
        assert get_value("tenant") is None
        assert next(generator) == "acme"
        assert get_value("tenant") is None
        generator.close()


def test_exception_of_a_traced_coroutine_propagates_unchanged() -> None:
    error = RuntimeError("unavailable")

    @obs.traced
    async def fail() -> None:
        raise error

    with capture() as captured, pytest.raises(RuntimeError) as raised:
        asyncio.run(fail())
    assert raised.value is error
    [span] = captured.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "unavailable")


def test_block_in_a_generator_that_another_task_closes_ends() -> None:
    async def items() -> AsyncGenerator[int]:
        with obs.span("items"):
            yield 1

    async def run() -> None:
        generator = items()
        await anext(generator)
        await asyncio.create_task(generator.aclose(), context=contextvars.Context())
        assert not trace.get_current_span().get_span_context().is_valid

    with capture() as captured:
        asyncio.run(run())
    assert [span.name for span in captured.spans] == ["items"]
    assert captured.span("items").status.status_code is StatusCode.UNSET


def test_class_is_refused() -> None:
    with pytest.raises(obs.ConfigurationError, match="it is not a function"):
        obs.traced("shop")(Shop)


def test_unsampled_span_is_not_recorded_and_propagates() -> None:
    with capture(traces_sampler="always_off") as captured:
        with obs.span("price", total=object()) as current:
            assert not current.is_recording()
            headers: dict[str, str] = {}
            obs.inject(headers)
        assert int(headers["traceparent"][-2:], 16) & 1 == 0
    assert captured.spans == []


DISABLED = """
import connectsoft_obs as obs
from opentelemetry import trace
@obs.traced
def price(): return trace.get_current_span()
with obs.span("outer", total=1) as current:
    assert not current.is_recording()
    assert not price().get_span_context().is_valid
print("end")
"""


def test_disabled_sdk_records_no_span() -> None:
    result = run_script(DISABLED, env={"OTEL_SDK_DISABLED": "true"})
    assert (result.stdout, result.stderr, result.exit_code) == ("end\n", "", 0)


def test_internal_error_does_not_affect_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture() as captured:
        telemetry = telemetry_holder().resolve()

        def fail(*_: Any) -> None:
            raise RuntimeError("simulated failure")

        monkeypatch.setattr(telemetry.tracing.tracer, "start_fast", fail)
        with obs.span("price") as current:
            assert not current.is_recording()
        assert add(1) == 3
    assert captured.spans == []
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="work.span").value == 2
