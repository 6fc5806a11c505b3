"""The loggers that log_line.py compares, each of which writes to a pipe that another process reads."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import Any, TextIO

import orjson
import structlog
from opentelemetry.context import Context
from pythonjsonlogger.json import JsonFormatter

from connectsoft_obs.context import OPERATION_KEY, SPAN_KEY
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.operations import Operation
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.logs import Logger, LogPipeline, StdoutWriter
from connectsoft_obs.telemetry import Telemetry

_readers: list[subprocess.Popen[bytes]] = []
_writers: list[TextIO] = []


def open_pipe() -> TextIO:
    """The write end of a pipe whose reader discards everything."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _readers.append(reader)
    assert reader.stdin is not None
    _writers.append(os.fdopen(os.dup(reader.stdin.fileno()), "w"))
    return _writers[-1]


def kill_readers() -> None:
    """Stop the processes that read the pipes."""
    for reader in _readers:
        reader.kill()


def create_pipeline(with_writer_thread: bool) -> tuple[Telemetry, Logger, LogPipeline]:
    """A new Telemetry with its logger and pipeline; without the writer thread each line is one write."""
    internal_telemetry = InternalTelemetry()
    telemetry = Telemetry(
        load_settings({}, service="orders-api", version="1.4.0", log_profile="otel"),
        exports=False,
        output=StdoutWriter(internal_telemetry, open_pipe()),
    )
    if with_writer_thread:
        telemetry.output.start()
    return telemetry, Logger(lambda: telemetry.logs, "orders", {}), telemetry.logs


def request_context(telemetry: Telemetry) -> tuple[Operation, Context]:
    """The operation and the context of a request, as the middleware creates them."""
    operation = Operation("GET /orders/{id}", "corr-3a6e1d40")
    span = telemetry.tracing.tracer.start_span("GET /orders/{id}")
    return operation, Context({OPERATION_KEY: operation, SPAN_KEY: span})


def structlog_loggers() -> dict[str, Any]:
    """Loggers of structlog with the set-ups of its documentation."""
    wrapper = structlog.make_filtering_bound_logger(logging.INFO)
    default = structlog.wrap_logger(
        structlog.PrintLogger(open_pipe()),
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
        structlog.BytesLogger(open_pipe().buffer),
        wrapper_class=wrapper,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
    ).bind()
    return {"structlog, default JSON configuration": default, "structlog, orjson, BytesLogger": fast}


class OrjsonFormatter(logging.Formatter):
    """A minimal JSON formatter."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record and the fields in its attribute `fields`."""
        line = {"timestamp": record.created, "level": record.levelname, "message": record.getMessage()}
        return orjson.dumps(line | getattr(record, "fields", {})).decode()


def stdlib_loggers() -> dict[str, logging.Logger]:
    """The standard library with JSON formatters."""
    loggers = {}
    for name, formatter in (
        ("stdlib + python-json-logger", JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")),
        ("stdlib + an orjson formatter", OrjsonFormatter()),
    ):
        logger = logging.getLogger(f"bench.{name}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.handlers.clear()  # those of an earlier measurement
        handler = logging.StreamHandler(open_pipe())
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        loggers[name] = logger
    return loggers


def bootstrap_loggers() -> dict[str, Any]:
    """The logger of structlog as lite-bootstrap configures it, if it is installed."""
    loggers: dict[str, Any] = {}
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(open_pipe()):
        from lite_bootstrap.instruments import logging_instrument

        config = logging_instrument.LoggingConfig(service_name="orders-api")
        instrument = logging_instrument.LoggingInstrument(bootstrap_config=config)
        logger = instrument.memory_logger_factory("bench.lite")
        del logger.handlers[1:]  # the factory adds a handler on each call
        loggers["lite-bootstrap, ten lines per write"] = structlog.wrap_logger(
            logger, wrapper_class=structlog.stdlib.BoundLogger, processors=instrument.structlog_processors
        ).bind()
    return loggers
