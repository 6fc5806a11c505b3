"""Blocks inside a generator that is left early and closed elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture

BLOCKS: dict[str, list[Callable[[], Any]]] = {
    "operation": [lambda: obs.operation("step")],
    "producer": [lambda: obs.producer("events", system="servicebus")],
    "genai_call": [lambda: obs.genai_call(provider="openai", model="m")],
    "span": [lambda: obs.span("step")],
    "nested": [lambda: obs.operation("outer"), lambda: obs.operation("inner")],
    "nested kinds": [
        lambda: obs.operation("outer"),
        lambda: obs.producer("events", system="servicebus"),
        lambda: obs.genai_call(provider="openai", model="m"),
        lambda: obs.span("step"),
    ],
}


async def numbers(blocks: list[Callable[[], Any]]) -> AsyncGenerator[int]:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block())
        yield 1
        yield 2


async def left_to_the_event_loop(blocks: list[Callable[[], Any]]) -> None:
    async for _ in numbers(blocks):
        break
    for _ in range(3):
        await asyncio.sleep(0)


async def closed_by_a_child_task(blocks: list[Callable[[], Any]]) -> None:
    generator = numbers(blocks)
    await anext(generator)

    async def close() -> None:
        await generator.aclose()
        assert not trace.get_current_span().get_span_context().is_valid

    await asyncio.create_task(close())


async def closed_by_an_unrelated_task(blocks: list[Callable[[], Any]]) -> None:
    generator = numbers(blocks)
    await anext(generator)

    async def close() -> None:
        await generator.aclose()

    await asyncio.create_task(close(), context=contextvars.Context())


async def closed_in_another_thread(blocks: list[Callable[[], Any]]) -> None:
    def synchronous() -> Generator[int]:
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block())
            yield 1

    generator = synchronous()
    next(generator)
    await asyncio.get_running_loop().run_in_executor(None, generator.close)


WAYS = [left_to_the_event_loop, closed_by_a_child_task, closed_by_an_unrelated_task, closed_in_another_thread]


def run(way: Callable[[list[Callable[[], Any]]], Any], blocks: list[Callable[[], Any]]) -> Captured:
    """Leave a generator in an operation of its own, and check what is current afterwards."""

    async def main() -> None:
        await way(blocks)
        assert not trace.get_current_span().get_span_context().is_valid
        assert not get_current()
        with obs.operation("enclosing"):
            span = trace.get_current_span()
            await way(blocks) if way is not closed_by_a_child_task else None
            assert trace.get_current_span() is span
            obs.get_logger().info("after")

    with capture() as seen:
        asyncio.run(main())
    return seen


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("way", WAYS)
def test_generator_closed_elsewhere_leaves_nothing_current(
    way: Callable[[list[Callable[[], Any]]], Any], block: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        seen = run(way, BLOCKS[block])
    assert not [line for line in seen.logs if line["severity"] in ("WARN", "ERROR")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    [enclosing] = [span for span in seen.spans if span.name == "run enclosing"]
    [after] = [line for line in seen.logs if line["message"] == "after"]
    assert enclosing.context is not None
    assert after["span_id"] == f"{enclosing.context.span_id:016x}"


def test_line_of_an_operation_that_another_task_ends_has_its_ids() -> None:
    seen = run(closed_by_an_unrelated_task, BLOCKS["operation"])
    spans = {f"{span.context.span_id:016x}" for span in seen.spans if span.name == "run step" and span.context}
    lines = {line.get("span_id") for line in seen.logs if "step" in line["message"]}
    assert len(spans) == 2
    assert lines == spans
