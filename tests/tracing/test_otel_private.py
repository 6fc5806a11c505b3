"""The private names of OpenTelemetry that the package uses exist in the installed version, in the expected form.

If a test fails after an upgrade of OpenTelemetry, adapt connectsoft_obs/context/otel_private.py.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from opentelemetry import context, metrics
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk._logs import ReadableLogRecord

import connectsoft_obs
from connectsoft_obs.context import otel_context, otel_private, suppression

INSTALLED = f"opentelemetry-api {version('opentelemetry-api')}, opentelemetry-sdk {version('opentelemetry-sdk')}"
PACKAGE = Path(connectsoft_obs.__file__).parent


def test_current_context_is_a_context_variable() -> None:
    assert isinstance(otel_private.CURRENT_CONTEXT, ContextVar), INSTALLED
    token = context.attach(context.Context({"some-key": 1}))
    try:
        assert otel_private.CURRENT_CONTEXT.get() is context.get_current(), INSTALLED
        assert otel_context.get_current() is context.get_current()
    finally:
        context.detach(token)


def test_without_the_context_variable_the_functions_of_the_api_are_used() -> None:
    code = """
import opentelemetry.context as context
context.get_current()
del context._RUNTIME_CONTEXT._current_context
from connectsoft_obs.context import otel_context
assert otel_context.get_current is context.get_current
assert otel_context.attach is context.attach
assert otel_context.reset is context.detach
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_refused_providers_are_reported_by_the_expected_loggers() -> None:
    code = """
import logging
from opentelemetry import metrics, trace
from connectsoft_obs.context.otel_private import PROVIDER_LOGGERS, REFUSED_PROVIDER_TEXT
records = []
logging.getLogger().addHandler(type("Handler", (logging.Handler,), {"emit": lambda _, record: records.append(record)})())
for _ in range(2):
    trace.set_tracer_provider(trace.NoOpTracerProvider())
    metrics.set_meter_provider(metrics.NoOpMeterProvider())
assert [record.name for record in records] == list(PROVIDER_LOGGERS.values()), records
assert all(record.msg.startswith(REFUSED_PROVIDER_TEXT) for record in records), records
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, f"{INSTALLED}: {run.stderr}"


def test_suppression_keys_exist() -> None:
    keys = [context._SUPPRESS_INSTRUMENTATION_KEY, context._SUPPRESS_HTTP_INSTRUMENTATION_KEY]
    values = [otel_private.SUPPRESS_INSTRUMENTATION_KEY, otel_private.SUPPRESS_HTTP_INSTRUMENTATION_KEY]
    assert values == keys, INSTALLED
    assert all(suppression.suppressed_context().get(key) is True for key in keys), INSTALLED


def test_agnosticcontextmanager_decorates_coroutine_functions() -> None:
    @otel_private.agnosticcontextmanager
    def block() -> Iterator[int]:
        yield 1

    @block()
    async def decorated() -> int:
        return 2

    with block() as value:
        assert value == 1, INSTALLED
    with pytest.raises(StopIteration) as stopped:
        decorated().send(None)
    assert stopped.value.value == 2, INSTALLED


def test_proxy_instruments_have_recording_methods_and_no_provider() -> None:
    methods = otel_private.proxy_instrument_methods()
    assert {proxy.__name__: method for proxy, method in methods} == {
        "_ProxyCounter": "add",
        "_ProxyUpDownCounter": "add",
        "_ProxyHistogram": "record",
        "_ProxyGauge": "set",
    }, INSTALLED
    for proxy, _ in methods:
        instrument = proxy("name")
        assert otel_private.lacks_provider(instrument), INSTALLED
        instrument.on_meter_set(metrics.NoOpMeter("meter"))
        assert not otel_private.lacks_provider(instrument), INSTALLED


def test_lazy_classes_are_those_of_opentelemetry() -> None:
    assert otel_private.Gauge is metrics._Gauge, INSTALLED
    assert otel_private.LogRecord is LogRecord, INSTALLED
    assert otel_private.SeverityNumber is SeverityNumber, INSTALLED
    assert otel_private.ReadableLogRecord is ReadableLogRecord, INSTALLED
    with pytest.raises(AttributeError, match="unknown_name"):
        _ = otel_private.unknown_name


def test_incubating_attributes_can_be_imported() -> None:
    assert import_module(otel_private.INCUBATING_ATTRIBUTES).__path__, INSTALLED


def test_instrumentors_have_a_check_of_dependency_conflicts() -> None:
    assert callable(URLLib3Instrumentor()._check_dependency_conflicts), version("opentelemetry-instrumentation")
    assert otel_private.dependency_conflict(URLLib3Instrumentor()) == ""
    assert otel_private.dependency_conflict(object()) == ""


def test_private_names_of_opentelemetry_are_used_in_one_module_only() -> None:
    names = {
        "_RUNTIME_CONTEXT",
        "_current_context",
        "_active_span_processor",
        "_check_dependency_conflicts",
        "_real_instrument",
    }
    for path in PACKAGE.rglob("*.py"):
        if path.name == "otel_private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                assert not [part for part in parts if part.startswith("_")], place
            if isinstance(node, ast.Attribute):
                assert node.attr not in names, place
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, place
                assert not node.value.startswith("_SUPPRESS_"), place
