"""What a log line costs: run `python tests/bench/log_line.py`; figures are ratios within one run, the first row is 1.

Three questions: an application line, an access line, and what cleaning (redaction, caps, values that JSON cannot hold) adds
to a line. Every logger writes into a pipe that another process reads. Variants take turns in one process, in a new order in
each round; a figure is the median over rounds of CPU time, of all threads and until the last line is in the pipe, over that
of the first row in the same round. Lines say what the variant's documentation has them say; ours says more: trace, service,
environment, and nothing secret. Peers that are not installed are left out (`pip install lite-bootstrap`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import orjson
import structlog
from opentelemetry.context import Context, attach
from opentelemetry.sdk.trace import TracerProvider
from pythonjsonlogger.json import JsonFormatter

import connectsoft_obs as obs
from connectsoft_obs.context import OPERATION_KEY, SPAN_KEY
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.logs import Logger, LogPipeline, StdoutWriter
from connectsoft_obs.telemetry import Telemetry

TIMES = 1500
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 Safari/537.36"
IDS = {"trace_id": f"{7:032x}", "span_id": f"{9:016x}", "correlation_id": "corr-3a6e1d40"}
DIGITS = (b"%032x" % 7, b"%016x" % 9, b"01")
Say = Callable[[int], object]
Variants = dict[str, tuple[Say, Callable[[], object]]]
"""By name: says the line with a number in it; waits until all lines are written."""

_readers: list[subprocess.Popen[bytes]] = []
_writers: list[TextIO] = []


def pipe() -> TextIO:
    """The writing end of a pipe that is read."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _readers.append(reader)
    assert reader.stdin is not None
    _writers.append(os.fdopen(os.dup(reader.stdin.fileno()), "w"))
    return _writers[-1]


def ours(serving: bool) -> tuple[Telemetry, Logger, LogPipeline]:
    """A Telemetry of its own, and its logger."""
    internal_telemetry = InternalTelemetry()
    telemetry = Telemetry(
        load_settings({}, service="orders-api", version="1.4.0", log_profile="otel"),
        exports=False,
        output=StdoutWriter(internal_telemetry, pipe()),
    )
    if serving:
        telemetry.output.start()
    return telemetry, Logger(lambda: telemetry.logs, "orders", {}), telemetry.logs


def request(telemetry: Telemetry) -> tuple[Operation, Context]:
    """A request as the middleware begins it."""
    operation = Operation("GET /orders/{id}", "corr-3a6e1d40")
    return operation, Context(
        {OPERATION_KEY: operation, SPAN_KEY: telemetry.tracing.tracer.start_span("GET /orders/{id}")}
    )


def structlogs() -> dict[str, Any]:
    """Loggers of structlog as its documentation has them."""
    wrapper = structlog.make_filtering_bound_logger(logging.INFO)
    default = structlog.wrap_logger(
        structlog.PrintLogger(pipe()),
        wrapper_class=wrapper,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
    ).bind()
    fast = structlog.wrap_logger(
        structlog.BytesLogger(pipe().buffer),
        wrapper_class=wrapper,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
    ).bind()
    return {"structlog, default JSON set-up": default, "structlog, orjson, BytesLogger": fast}


def standards() -> dict[str, logging.Logger]:
    """Loggers of the standard library with JSON formatters."""

    class Orjson(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            line = {"timestamp": record.created, "level": record.levelname, "message": record.getMessage()}
            return orjson.dumps(line | getattr(record, "fields", {})).decode()

    found = {}
    for name, formatter in (
        ("stdlib + python-json-logger", JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")),
        ("stdlib + an orjson formatter", Orjson()),
    ):
        logger = logging.getLogger(f"bench.{name}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.handlers.clear()  # of the measurement before
        handler = logging.StreamHandler(pipe())
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        found[name] = logger
    return found


def bootstraps() -> dict[str, Any]:
    """As the bootstrap libraries set structlog up; one logger each, because each bind adds a handler."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(pipe()):
        from lite_bootstrap.instruments import logging_instrument as theirs

        instrument = theirs.LoggingInstrument(bootstrap_config=theirs.LoggingConfig(service_name="orders-api"))
        logger = instrument.memory_logger_factory("bench.lite")
        del logger.handlers[1:]  # one more for each time it is asked
        found["lite-bootstrap, ten lines a write"] = structlog.wrap_logger(
            logger, wrapper_class=structlog.stdlib.BoundLogger, processors=instrument.structlog_processors
        ).bind()
    return found


def application_lines() -> Variants:
    """`log.info("order placed", ...)` with four fields, one of them new in each line."""
    fields = {"total": 99.5, "currency": "EUR", "customer": "c-1042"}
    found: Variants = {}
    for name, serving in (("ours, while serving", True), ("ours, one write a line", False)):
        telemetry, log, _ = ours(serving)
        _, context = request(telemetry)

        def say(number: int, log: Logger = log, context: Context = context) -> None:
            attach(context)
            log.info("order placed", order_id=f"o-{number}", **fields)

        found[name] = (say, partial(telemetry.logs.flush, 10))
    for name, logger in {**structlogs(), **bootstraps()}.items():

        def ask(number: int, logger: Any = logger) -> None:
            logger.info("order placed", order_id=f"o-{number}", **fields, **IDS)

        found[name] = (ask, lambda: None)
    for name, logger in standards().items():

        def tell(number: int, logger: logging.Logger = logger, orjson_: bool = "orjson" in name) -> None:
            extra = {"order_id": f"o-{number}", **fields, **IDS}
            logger.info("order placed", extra={"fields": extra} if orjson_ else extra)

        found[name] = (tell, lambda: None)
    return found


def access_lines() -> Variants:
    """The line about a request: method, route, status, duration, sizes, client, user agent."""
    fixed = {"http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 200}
    said = {
        "method": "GET",
        "route": "/orders/{id}",
        "status": 200,
        "size": 512,
        "client": "203.0.113.7",
        "agent": AGENT,
    }
    found: Variants = {}
    for name, serving in (("ours, while serving", True), ("ours, one write a line", False)):
        telemetry, _, stream = ours(serving)
        operation, context = request(telemetry)
        numbers = ("http.server.request.duration", "http.response.body.size")
        form = stream.compile_line(
            "GET /orders/{id} 200", "connectsoft_obs.access", {**fixed, "connectsoft.outcome": "success"}, numbers
        )
        caller = stream.encode_fields({"client.address": "203.0.113.7", "user_agent.original": AGENT})

        def say(
            number: int,
            stream: LogPipeline = stream,
            form: Any = form,
            about: Any = (operation, context, caller),
        ) -> None:
            what, where, who = about
            stream.write_templated(form, where, DIGITS, logging.INFO, time.time_ns(), what, (number / 1e6, 512), who)

        found[name] = (say, partial(telemetry.logs.flush, 10))
    for name, logger in {**structlogs(), **bootstraps()}.items():

        def ask(number: int, logger: Any = logger) -> None:
            logger.info("request", duration=number / 1e6, **said, **IDS)

        found[name] = (ask, lambda: None)
    for name, logger in standards().items():

        def tell(number: int, logger: logging.Logger = logger, orjson_: bool = "orjson" in name) -> None:
            extra = {"duration": number / 1e6, **said, **IDS}
            logger.info("request", extra={"fields": extra} if orjson_ else extra)

        found[name] = (tell, lambda: None)
    return found


def bindings() -> Variants:
    """Saying within a request what it is about, one value of it new each time."""
    found: Variants = {}
    telemetry, _, _ = ours(True)
    _, context = request(telemetry)

    def bind(number: int) -> None:
        attach(context)
        obs.bind(order_id=f"o-{number}", customer="c-1042")

    found["obs.bind"] = (bind, lambda: None)

    def contextvars(number: int) -> None:
        structlog.contextvars.bind_contextvars(order_id=f"o-{number}", customer="c-1042")

    found["structlog.contextvars.bind_contextvars"] = (contextvars, lambda: None)
    span = TracerProvider().get_tracer("bench").start_span("request")

    def attribute(number: int) -> None:
        span.set_attributes({"order_id": f"o-{number}", "customer": "c-1042"})

    found["set_attributes of the SDK's span"] = (attribute, lambda: None)
    return found


class Nothing:
    """In place of cleaning: what a line costs without any."""

    def sanitize_fields(self, given: dict[str, Any]) -> None:
        """Leave them."""

    texts = sanitize_fields

    def sanitize_text(self, text: str) -> str:
        """Leave it."""
        return text


def cleanings() -> Variants:
    """The same line, while serving, without and with cleaning: of texts seen before, of new ones, of secrets."""
    found: Variants = {}
    plain = {"total": 99.5, "currency": "EUR", "customer": "c-1042"}
    rows: dict[str, tuple[bool, Callable[[int], dict[str, Any]]]] = {
        "no cleaning": (False, lambda number: {"order_id": f"o-{number}", **plain}),
        "one new text": (True, lambda number: {"order_id": f"o-{number}", **plain}),
        "texts seen before": (True, lambda _: {"order_id": "o-1", **plain}),
        "no cleaning, nested": (False, lambda number: {"order": {"id": f"o-{number}", "lines": [1, 2, 3]}, **plain}),
        "nested": (True, lambda number: {"order": {"id": f"o-{number}", "lines": [1, 2, 3]}, **plain}),
        "a secret key": (True, lambda number: {"order_id": f"o-{number}", "password": "hunter2", **plain}),
        "a bearer token in a new text": (True, lambda number: {"header": f"Bearer abcdefgh{number:08d}", **plain}),
    }
    for name, (cleaned, fields) in rows.items():
        telemetry, log, stream = ours(serving=True)
        if not cleaned:
            stream._sanitizer = Nothing()  # type: ignore[assignment]
        _, context = request(telemetry)

        def say(number: int, log: Logger = log, context: Context = context, fields: Any = fields) -> None:
            attach(context)
            log.info("order placed", **fields(number))

        found[name] = (say, partial(telemetry.logs.flush, 10))
    return found


def measure(variants: Variants, rounds: int) -> dict[str, tuple[float, float, float, float]]:
    """Median ratio to the first variant, its spread over rounds, and microseconds a line."""
    numbers = itertools.count()
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name in random.sample(list(variants), len(variants)):
            say, settle = variants[name]
            began = time.process_time()
            for number in itertools.islice(numbers, TIMES):
                say(number)
            settle()
            if turn:  # the first one warms up
                costs[name].append((time.process_time() - began) / TIMES * 1e6)
    first = costs[next(iter(variants))]
    found = {}
    for name, series in costs.items():
        ratios = [one / base for one, base in zip(series, first, strict=True)]
        found[name] = (statistics.median(ratios), min(ratios), max(ratios), statistics.median(series))
    return found


def ratios(rounds: int) -> dict[str, dict[str, float]]:
    """What applications do within a request: by kind and variant, the cost over ours."""
    found = {
        title: {name: ratio for name, (ratio, *_) in measure(variants(), rounds).items()}
        for title, variants in INSIDE.items()
    }
    for reader in _readers:
        reader.kill()
    return found


INSIDE = {
    "a log line with four fields": application_lines,
    "an access line": access_lines,
    "binding two facts": bindings,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    for title, variants in {**INSIDE, "cleaning": cleanings}.items():
        print(f"\n{title:<42}{'ratio':>7}   {'over rounds':<14}{'us, here':>9}")
        for name, (ratio, low, high, cost) in measure(variants(), options.rounds).items():
            print(f"  {name:<40}{ratio:>7.2f}   {f'{low:.2f}..{high:.2f}':<14}{cost:>9.1f}")
        sys.stdout.flush()
    for reader in _readers:
        reader.kill()


if __name__ == "__main__":
    main()
