"""Secrets in spans of instrumentations and of the application are redacted when they are exported, and only there."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from support.otlp import HttpSink, decode_attributes
from support.scripts import run_script

from connectsoft_obs.redaction import AttributeRedactor, RedactionPolicy
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import Captured
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter

CLIENT = """
import sys, httpx
import connectsoft_obs as obs
telemetry = obs.configure(service="client", otlp_endpoint=sys.argv[1], metrics_exporter="none")
with obs.operation("import-orders"):
    httpx.get(sys.argv[1] + "/orders?token=s3cret&code=s3cret&page=2&api_key=s3cret#session=s3cret")
    httpx.get(sys.argv[1].replace("//", "//user:s3cret@") + "/orders?password=s3cret")
assert telemetry.shutdown(20)
"""


def attributes_of(sink: HttpSink) -> list[dict[str, Any]]:
    return [decode_attributes(span.attributes) for span in sink.received.spans]


def test_httpx_instrumentation_exports_no_secret_of_a_url() -> None:
    with HttpSink() as sink:
        result = run_script(CLIENT, sink.url)
    assert result.exit_code == 0, result.stderr
    first, second = [attributes for attributes in attributes_of(sink) if "url.full" in attributes]
    assert "/orders?token=REDACTED&code=REDACTED&page=2&api_key=REDACTED" in first["url.full"]
    assert second["url.full"].endswith("/orders?password=REDACTED")
    assert "s3cret" not in str(sink.received.requests)
    assert "s3cret" not in result.stdout + result.stderr


EXTERNAL_PROVIDER = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
import connectsoft_obs as obs
telemetry = obs.configure(service="client", otlp_endpoint=sys.argv[1], metrics_exporter="none")
with trace.get_tracer("app").start_as_current_span("outer", attributes={"url.full": "https://shop/?token=s3cret"}):
    try:
        with obs.span("inner", total=1, password="s3cret"):
            raise ValueError("password=s3cret")
    except ValueError:
        pass
assert telemetry.shutdown(20)
"""


def test_spans_of_another_provider_are_exported_without_secrets() -> None:
    with HttpSink() as sink:
        result = run_script(EXTERNAL_PROVIDER, sink.url)
    assert result.exit_code == 0, result.stderr
    inner, outer = sink.received.spans
    assert inner.parent_span_id == outer.span_id
    assert decode_attributes(inner.attributes) == {"total": 1, "password": "REDACTED", "error.type": "ValueError"}
    assert (inner.status.code, inner.status.message) == (2, "password=REDACTED")
    assert decode_attributes(outer.attributes) == {"url.full": "https://shop/?token=REDACTED"}


def telemetry_with(**settings: Any) -> Telemetry:
    loaded = load_settings({}, service="client", metrics_exporter="none", **settings)
    return Telemetry(loaded, output=CapturingLogWriter(Captured()), exports=True)


def test_processor_of_the_application_receives_unchanged_spans() -> None:
    memory, url = InMemorySpanExporter(), "https://shop.example/?token=s3cret"
    with HttpSink() as sink:
        telemetry = telemetry_with(otlp_endpoint=sink.url)
        telemetry.tracing.provider.add_span_processor(SimpleSpanProcessor(memory))
        with telemetry.tracing.provider.get_tracer("app").start_as_current_span("call token=s3cret") as span:
            span.set_attribute("url.full", url)
            span.add_event("token=s3cret", {"password": "s3cret"})
            span.set_status(trace.StatusCode.ERROR, "password=s3cret")
        assert telemetry.shutdown(20)
    [processed] = memory.get_finished_spans()
    assert (processed.attributes or {})["url.full"] == url
    assert processed.name == "call token=s3cret"
    assert processed.status.description == "password=s3cret"
    [event] = processed.events
    assert (event.name, dict(event.attributes or {})) == ("token=s3cret", {"password": "s3cret"})
    [exported] = sink.received.spans
    assert "s3cret" not in str(exported)
    assert exported.name == "call token=REDACTED"


def test_settings_of_redaction_apply_to_exported_spans() -> None:
    with HttpSink() as sink:
        telemetry = telemetry_with(
            otlp_endpoint=sink.url, redact_keys=("iban",), redact_emails=True, url_query_allowlist=("page_token",)
        )
        span = telemetry.tracing.provider.get_tracer("app").start_span("call")
        query = "iban=DE1&page_token=2&code=3"
        span.set_attributes({"customer.iban": "DE1", "note": "to a@b.example", "url.query": query})
        span.end()
        assert telemetry.shutdown(20)
    assert attributes_of(sink) == [
        {
            "customer.iban": "REDACTED",
            "note": "to REDACTED",
            "url.query": "iban=REDACTED&page_token=2&code=REDACTED",
        }
    ]


def test_counts_of_dropped_data_are_exported() -> None:
    with HttpSink() as sink:
        telemetry = telemetry_with(otlp_endpoint=sink.url)
        span = telemetry.tracing.provider.get_tracer("app").start_span("call")
        for number in range(200):
            span.set_attribute(f"password_{number}", "s3cret")
            span.add_event("event", {"password": "s3cret"})
        span.end()
        assert telemetry.shutdown(20)
    [exported] = sink.received.spans
    assert (exported.dropped_attributes_count, exported.dropped_events_count) == (72, 72)
    assert "s3cret" not in str(exported)


def test_copy_without_secrets_keeps_links_and_counts_of_dropped_data() -> None:
    """SDK exporters, such as that of Application Insights, get a copy."""
    limits = SpanLimits(max_span_attributes=2, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1)
    memory, provider = InMemorySpanExporter(), TracerProvider(span_limits=limits, sampler=ALWAYS_ON)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    secrets = {"password": "s3cret", "token": "s3cret"}
    links = [trace.Link(trace.SpanContext(1, 2, is_remote=True), secrets) for _ in range(3)]
    with provider.get_tracer("app").start_as_current_span("call", attributes={**secrets, "a": 1}, links=links) as span:
        for _ in range(2):
            span.add_event("token=s3cret", secrets)
    [ended] = memory.get_finished_spans()
    telemetry = telemetry_with()
    copy = telemetry.tracing.redactor.redact_span(ended)
    telemetry.shutdown(1)
    assert "s3cret" not in copy.to_json()
    assert (copy.dropped_attributes, copy.dropped_events, copy.dropped_links) == (1, 1, 2)
    [event], [link] = copy.events, copy.links
    assert (link.context.span_id, dict(link.attributes or {})) == (2, {"token": "REDACTED"})
    assert isinstance(event.attributes, BoundedAttributes)
    assert isinstance(link.attributes, BoundedAttributes)
    assert event.attributes.dropped == link.attributes.dropped == 1


STATEMENTS = {
    "SELECT * FROM orders WHERE name = 'bob' AND id = 3": "SELECT * FROM orders WHERE name = 'bob' AND id = 3",
    "INSERT INTO users (name, password) VALUES ('bob', 'hun''ter2')": "INSERT INTO users (name, password) VALUES (?, ?)",
    "INSERT INTO users (pin, pwd) VALUES (1, 2), ($1, 3)": "INSERT INTO users (pin, pwd) VALUES (?, ?), ($1, ?)",
    'INSERT INTO users (password) VALUES ("hunter2")': "INSERT INTO users (password) VALUES (?)",
    'INSERT INTO "users" ("password") VALUES (%s)': 'INSERT INTO "users" ("password") VALUES (%s)',
    "UPDATE users SET token_hash = 'abc' WHERE id = 4": "UPDATE users SET token_hash = ? WHERE id = 4",
    "ALTER ROLE app WITH PASSWORD 'hunter2'": "ALTER ROLE app WITH PASSWORD ?",
    'CREATE USER app IDENTIFIED BY "hunter2"': "CREATE USER app IDENTIFIED BY ?",
    r"INSERT INTO u (pwd, n) VALUES ('a\', 'hunter2')": "INSERT INTO u (pwd, n) VALUES (?)",
    "AUTH hunter2": "AUTH ?",
    "SET page 1\nHSET user:1 password hunter2\nGET page": "SET page 1\nHSET ?\nGET page",
    "CONFIG SET requirepass hunter2": "CONFIG SET requirepass ?",
    'find {"password": "hunter2"}': 'find {"password": "REDACTED"}',
    "SET ? ?": "SET ? ?",
}


@pytest.mark.parametrize("statement", STATEMENTS, ids=range(len(STATEMENTS)))
@pytest.mark.parametrize("key", ["db.statement", "db.query.text"])
def test_literals_of_statements_that_name_a_secret_are_replaced(statement: str, key: str) -> None:
    redactor = AttributeRedactor(RedactionPolicy())
    assert redactor.redact({key: statement})[key] == STATEMENTS[statement]


@pytest.mark.parametrize("pattern", ["'\\'", '"a', "values ", "AUTH ", "?a=", "password '", "SET ", "#&"])
def test_redaction_time_is_proportional_to_the_length(pattern: str) -> None:
    redactor = AttributeRedactor(RedactionPolicy())
    text = "password " + pattern * (200_000 // len(pattern))
    assert redactor.redact({"db.statement": text, "url.full": text, "note": text})
