"""Cost of a log line: `python tests/bench/log_line.py`. Figures are ratios to the first row of each table.

Measured are an application line, an access line, bindings within a request, and what sanitizing (redaction, size limits,
values that JSON cannot represent) adds to a line. Every logger writes to a pipe that another process reads. Variants take
turns in one process, in a new random order each round; a figure is the median over the rounds of the CPU time of all
threads until the last line has been written, relative to the first row in the same round. The lines of other libraries
have the content that their documentation shows; those of this package also have trace, service and environment, and are
redacted. Libraries that are not installed are left out (`pip install lite-bootstrap`).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from bench_loggers import (
    bootstrap_loggers,
    create_pipeline,
    kill_readers,
    request_context,
    stdlib_loggers,
    structlog_loggers,
)
from opentelemetry.context import Context, attach
from opentelemetry.sdk.trace import TracerProvider

import connectsoft_obs as obs
from connectsoft_obs.signals.logs import Logger, LogPipeline

LINES = 1500
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 Safari/537.36"
IDS = {"trace_id": f"{7:032x}", "span_id": f"{9:016x}", "correlation_id": "corr-3a6e1d40"}
HEX_IDS = (b"%032x" % 7, b"%016x" % 9, b"01")
PIPELINES = (("connectsoft-obs, while serving", True), ("connectsoft-obs, one write per line", False))
Variants = dict[str, tuple[Callable[[int], object], Callable[[], object]]]
"""By name: a function that logs a line with a number in it, and one that waits until all lines are written."""


def do_nothing() -> None:
    """For loggers that write each line before they return."""


def application_lines() -> Variants:
    """`log.info("order placed", ...)` with four fields, one of which is different in each line."""
    fields = {"total": 99.5, "currency": "EUR", "customer": "c-1042"}
    variants: Variants = {}
    for name, with_writer_thread in PIPELINES:
        telemetry, log, _ = create_pipeline(with_writer_thread)
        _, context = request_context(telemetry)

        def log_native(number: int, log: Logger = log, context: Context = context) -> None:
            attach(context)
            log.info("order placed", order_id=f"o-{number}", **fields)

        variants[name] = (log_native, partial(telemetry.logs.flush, 10))
    for name, logger in {**structlog_loggers(), **bootstrap_loggers()}.items():

        def log_structlog(number: int, logger: Any = logger) -> None:
            logger.info("order placed", order_id=f"o-{number}", **fields, **IDS)

        variants[name] = (log_structlog, do_nothing)
    for name, logger in stdlib_loggers().items():

        def log_stdlib(number: int, logger: logging.Logger = logger, nested: bool = "orjson" in name) -> None:
            extra = {"order_id": f"o-{number}", **fields, **IDS}
            logger.info("order placed", extra={"fields": extra} if nested else extra)

        variants[name] = (log_stdlib, do_nothing)
    return variants


def access_lines() -> Variants:
    """The access log line: method, route, status, duration, sizes, client, user agent."""
    constants = {
        "http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 200,
        "connectsoft.outcome": "success",
    }  # fmt: skip
    fields = {
        "method": "GET", "route": "/orders/{id}", "status": 200, "size": 512, "client": "203.0.113.7",
        "agent": USER_AGENT,
    }  # fmt: skip
    variants: Variants = {}
    for name, with_writer_thread in PIPELINES:
        telemetry, _, pipeline = create_pipeline(with_writer_thread)
        operation, context = request_context(telemetry)
        numbers = ("connectsoft.http.server.request.duration", "http.response.body.size")
        template = pipeline.compile_line("GET /orders/{id} 200", "connectsoft_obs.access", constants, numbers)
        client = pipeline.encode_fields({"client.address": "203.0.113.7", "user_agent.original": USER_AGENT})

        def log_template(
            number: int,
            pipeline: LogPipeline = pipeline,
            template: Any = template,
            request: Any = (operation, context, client),
        ) -> None:
            operation, context, client = request
            pipeline.write_templated(
                template, context, HEX_IDS, logging.INFO, time.time_ns(), operation, (number / 1e6, 512), client
            )

        variants[name] = (log_template, partial(telemetry.logs.flush, 10))
    for name, logger in {**structlog_loggers(), **bootstrap_loggers()}.items():

        def log_structlog(number: int, logger: Any = logger) -> None:
            logger.info("request", duration=number / 1e6, **fields, **IDS)

        variants[name] = (log_structlog, do_nothing)
    for name, logger in stdlib_loggers().items():

        def log_stdlib(number: int, logger: logging.Logger = logger, nested: bool = "orjson" in name) -> None:
            extra = {"duration": number / 1e6, **fields, **IDS}
            logger.info("request", extra={"fields": extra} if nested else extra)

        variants[name] = (log_stdlib, do_nothing)
    return variants


def bindings() -> Variants:
    """Binding two attributes within a request, one of which is different each time."""
    telemetry, _, _ = create_pipeline(with_writer_thread=True)
    _, context = request_context(telemetry)
    span = TracerProvider().get_tracer("bench").start_span("request")

    def bind(number: int) -> None:
        attach(context)
        obs.bind(order_id=f"o-{number}", customer="c-1042")

    def bind_contextvars(number: int) -> None:
        structlog.contextvars.bind_contextvars(order_id=f"o-{number}", customer="c-1042")

    def set_attributes(number: int) -> None:
        span.set_attributes({"order_id": f"o-{number}", "customer": "c-1042"})

    return {
        "obs.bind": (bind, do_nothing),
        "structlog.contextvars.bind_contextvars": (bind_contextvars, do_nothing),
        "set_attributes of the SDK's span": (set_attributes, do_nothing),
    }


class NoSanitizer:
    """Replaces the sanitizer of a pipeline, to measure a line without it."""

    def sanitize_fields(self, fields: dict[str, Any]) -> None:
        """Change nothing."""

    texts = sanitize_fields

    def sanitize_text(self, text: str) -> str:
        """Return the text."""
        return text


def sanitizing() -> Variants:
    """The same line without and with sanitizing, of values that occurred before, of new values and of secrets."""
    constant = {"total": 99.5, "currency": "EUR", "customer": "c-1042"}
    cases: dict[str, tuple[bool, Callable[[int], dict[str, Any]]]] = {
        "not sanitized": (False, lambda number: {"order_id": f"o-{number}", **constant}),
        "one new string": (True, lambda number: {"order_id": f"o-{number}", **constant}),
        "strings that occurred before": (True, lambda _: {"order_id": "o-1", **constant}),
        "nested, not sanitized": (
            False,
            lambda number: {"order": {"id": f"o-{number}", "lines": [1, 2, 3]}, **constant},
        ),
        "nested": (True, lambda number: {"order": {"id": f"o-{number}", "lines": [1, 2, 3]}, **constant}),
        "a key of a secret": (True, lambda number: {"order_id": f"o-{number}", "password": "hunter2", **constant}),
        "a bearer token in a new string": (True, lambda number: {"header": f"Bearer abcdefgh{number:08d}", **constant}),
    }
    variants: Variants = {}
    for name, (is_sanitized, create_fields) in cases.items():
        telemetry, log, pipeline = create_pipeline(with_writer_thread=True)
        if not is_sanitized:
            internals: Any = pipeline
            internals._sanitizer = NoSanitizer()
        _, context = request_context(telemetry)

        def log_native(
            number: int, log: Logger = log, context: Context = context, create_fields: Any = create_fields
        ) -> None:
            attach(context)
            log.info("order placed", **create_fields(number))

        variants[name] = (log_native, partial(telemetry.logs.flush, 10))
    return variants


def measure(variants: Variants, rounds: int) -> dict[str, tuple[float, float, float, float]]:
    """By variant: median ratio to the first variant, its minimum and maximum, and microseconds per line."""
    numbers = itertools.count()
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name in random.sample(list(variants), len(variants)):
            log, wait_until_written = variants[name]
            started = time.process_time()
            for number in itertools.islice(numbers, LINES):
                log(number)
            wait_until_written()
            if turn:  # the first round is the warm-up
                costs[name].append((time.process_time() - started) / LINES * 1e6)
    first = costs[next(iter(variants))]
    results = {}
    for name, series in costs.items():
        ratios = [cost / base for cost, base in zip(series, first, strict=True)]
        results[name] = (statistics.median(ratios), min(ratios), max(ratios), statistics.median(series))
    return results


def ratios(rounds: int) -> dict[str, dict[str, float]]:
    """By table and variant: the cost relative to this package."""
    results = {
        title: {name: ratio for name, (ratio, *_) in measure(create_variants(), rounds).items()}
        for title, create_variants in TABLES.items()
    }
    kill_readers()
    return results


TABLES = {
    "a log line with four fields": application_lines,
    "an access line": access_lines,
    "binding two attributes": bindings,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    for title, create_variants in {**TABLES, "sanitizing": sanitizing}.items():
        print(f"\n{title:<42}{'ratio':>7}   {'spread':<14}{'us':>9}")
        for name, (ratio, low, high, cost) in measure(create_variants(), options.rounds).items():
            print(f"  {name:<40}{ratio:>7.2f}   {f'{low:.2f}..{high:.2f}':<14}{cost:>9.1f}")
        sys.stdout.flush()
    kill_readers()


if __name__ == "__main__":
    main()
