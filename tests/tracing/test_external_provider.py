"""A tracer, meter or logger provider that the application sets: one connected trace at its exporter and at this package's.

Global OpenTelemetry providers can be set once in a process, so each test runs an application in a new one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from support.otlp import HttpSink, decode_attributes

SETUP = """
import concurrent.futures.thread  # before the SDK's provider, whose fork handler otherwise waits for a lock of it
import json, logging, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

class Ids(RandomIdGenerator):
    def generate_trace_id(self):
        return 0xABC << 116 | super().generate_trace_id() >> 12

class DropPath(Sampler):
    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
        parent = trace.get_current_span(parent_context).get_span_context()
        dropped = (attributes or {}).get("url.path") == "/dropped" or parent.is_valid and not parent.trace_flags.sampled
        return SamplingResult(Decision.DROP if dropped else Decision.RECORD_AND_SAMPLE, attributes)
    def get_description(self):
        return "DropPath"

memory = InMemorySpanExporter()
provider = TracerProvider(sampler=DropPath(), id_generator=Ids(), resource=Resource({"team": "checkout"}))
provider.add_span_processor(SimpleSpanProcessor(memory))

def seen():
    return [
        {"name": span.name, "kind": span.kind.name, "trace_id": f"{span.context.trace_id:032x}",
         "span_id": f"{span.context.span_id:016x}", "parent": span.parent and f"{span.parent.span_id:016x}",
         "attributes": dict(span.attributes), "status": span.status.status_code.name,
         "resource": dict(span.resource.attributes)}
        for span in memory.get_finished_spans()
    ]

def report(**values):
    print(json.dumps({"report": values}, default=str), flush=True)
"""

APPLICATION = """
from fastapi import FastAPI
from starlette.testclient import TestClient
import connectsoft_obs as obs

tracer = trace.get_tracer("shop")
app = FastAPI()

@app.get("/orders/{number}")
def order(number: int):
    trace.get_current_span().set_attribute("url.scheme", "set-by-application")
    with tracer.start_as_current_span("price"):
        logging.getLogger("shop").warning("priced")
        job()
        with obs.producer("events", system="kafka"):
            pass
    return {}

@app.get("/dropped")
def dropped():
    logging.getLogger("shop").warning("in dropped")
    with tracer.start_as_current_span("price"):
        job()

@app.get("/failing")
def failing():
    raise ValueError("broken")

@obs.job("recount")
def job():
    pass

@obs.consumer("events", system="kafka")
def consume(message):
    with tracer.start_as_current_span("store"):
        pass

app.add_middleware(obs.ObservabilityMiddleware, service="shop")
"""

REQUEST = """
with TestClient(app, raise_server_exceptions=False) as client:
    client.get("/orders/7", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    client.get("/dropped")
    client.get("/failing")
consume({})
"""


class Result:
    """What an application has reported and logged."""

    def __init__(self, output: str) -> None:
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        self.report: dict[str, Any] = next((line["report"] for line in self.lines if "report" in line), {})

    def messages(self, severity: str) -> list[str]:
        """Messages of the lines with a severity."""
        return [str(line["message"]) for line in self.lines if line.get("severity") == severity]


def run(code: str, sink: HttpSink | None = None, **environment: str) -> Result:
    """Run an application that uses the providers of `SETUP`."""
    if sink is not None:
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    process = subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stderr
    return Result(process.stdout)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as collector:
        yield collector


def exported(sink: HttpSink) -> dict[str, Any]:
    return {span.span_id.hex(): span for span in sink.received.spans}


def test_both_exporters_get_one_trace_made_by_the_set_provider(sink: HttpSink) -> None:
    code = "trace.set_tracer_provider(provider)\n" + APPLICATION + REQUEST + "obs.configure().flush(10)\n"
    result = run(code + "report(spans=seen())\n", sink)
    spans, received = {span["span_id"]: span for span in result.report["spans"]}, exported(sink)
    assert len(spans) == len(result.report["spans"]) == 7
    assert spans.keys() == received.keys()
    for span_id, span in spans.items():
        assert received[span_id].name == span["name"]
        assert received[span_id].trace_id.hex() == span["trace_id"]
        assert received[span_id].parent_span_id.hex() == (span["parent"] or "")
    by_name = {span["name"]: span for span in spans.values()}
    server, price, job, send = (
        by_name[name] for name in ("GET /orders/{number}", "price", "run recount", "send events")
    )
    assert server["trace_id"] == price["trace_id"] == job["trace_id"] == send["trace_id"]
    assert server["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert server["parent"] == "b7ad6b7169203331"
    assert price["parent"] == server["span_id"]
    assert job["parent"] == send["parent"] == price["span_id"]
    assert [by_name[name]["kind"] for name in ("GET /orders/{number}", "process events")] == ["SERVER", "CONSUMER"]
    assert by_name["store"]["trace_id"] == by_name["process events"]["trace_id"]
    assert by_name["GET /failing"]["trace_id"].startswith("abc"), "the id generator of the provider is not used"
    assert by_name["GET /failing"]["status"] == "ERROR"
    assert by_name["GET /failing"]["attributes"]["error.type"] == "ValueError"
    assert server["attributes"]["http.response.status_code"] == 200
    assert server["attributes"]["url.scheme"] == "set-by-application"
    assert {span["resource"]["team"] for span in spans.values()} == {"checkout"}


def test_log_lines_and_exemplars_have_the_ids_of_the_set_provider(sink: HttpSink) -> None:
    code = "trace.set_tracer_provider(provider)\n" + APPLICATION + REQUEST + "obs.configure().flush(10)\n"
    result = run(code + "report(spans=seen())\n", sink)
    by_name = {span["name"]: span for span in result.report["spans"]}
    lines = {line["message"]: line for line in result.lines if "message" in line}
    for message, name in (("priced", "price"), ("GET /orders/{number}", "GET /orders/{number}")):
        (line,) = [line for text, line in lines.items() if text.startswith(message)]
        assert (line["trace_id"], line["span_id"]) == (by_name[name]["trace_id"], by_name[name]["span_id"])
    duration = sink.received.metric("http.server.request.duration")
    exemplars = {
        exemplar.span_id.hex(): exemplar.trace_id.hex()
        for point in duration.histogram.data_points
        for exemplar in point.exemplars
    }
    assert exemplars
    assert exemplars.items() <= {span["span_id"]: span["trace_id"] for span in by_name.values()}.items()


def test_traces_that_the_set_sampler_drops_are_in_neither_exporter(sink: HttpSink) -> None:
    code = "trace.set_tracer_provider(provider)\n" + APPLICATION + REQUEST + "obs.configure().flush(10)\n"
    result = run(code + "report(spans=seen())\n", sink)
    assert not [span for span in result.report["spans"] if span["attributes"].get("url.path") == "/dropped"]
    (line,) = [line for line in result.lines if line.get("message") == "in dropped"]
    assert line["trace_id"].startswith("abc")
    assert line["trace_flags"] in ("00", "02")
    assert line["trace_id"] not in {span["trace_id"] for span in result.report["spans"]}
    assert line["trace_id"] not in {span.trace_id.hex() for span in sink.received.spans}
    points = sink.received.metric("http.server.request.duration").histogram.data_points
    assert sum(point.count for point in points) == 3, "a request that is not sampled is not counted"


def test_exported_spans_have_the_resource_of_the_set_provider(sink: HttpSink) -> None:
    code = "trace.set_tracer_provider(provider)\n" + APPLICATION + REQUEST + "obs.configure().flush(10)\n"
    run(code, sink)
    (resource, *_) = [
        decode_attributes(part.resource.attributes)
        for path, message in sink.received.requests
        if path == "/v1/traces"
        for part in message.resource_spans
    ]
    assert resource["team"] == "checkout"
    assert resource["service.name"] == "shop"


def test_capture_contains_the_spans_of_the_set_provider() -> None:
    code = """
    from connectsoft_obs.testing import capture
    for _ in range(2):
        with capture() as captured, TestClient(app) as client:
            client.get("/orders/7")
    report(names=[span.name for span in captured.spans], seen=[span["name"] for span in seen()])
    """
    result = run("trace.set_tracer_provider(provider)\n" + APPLICATION + textwrap.dedent(code))
    names = ["run recount", "send events", "price", "GET /orders/{number}"]
    assert result.report == {"names": names, "seen": 2 * names}


def test_reconfiguration_keeps_the_set_provider_and_exports_once(sink: HttpSink) -> None:
    code = """
    obs.configure(service="shop")
    obs.configure(service="shop", version="2")
    job()
    provider.force_flush()
    obs.configure(service="shop", version="2").flush(10)
    report(spans=seen())
    """
    application = APPLICATION.replace("app.add_middleware", "# app.add_middleware")
    result = run("trace.set_tracer_provider(provider)\n" + application + textwrap.dedent(code), sink)
    assert [span["name"] for span in result.report["spans"]] == ["run recount"]
    assert [span.name for span in sink.received.spans] == ["run recount"]


def test_two_applications_each_export_their_own_spans(sink: HttpSink) -> None:
    code = """
    from starlette.applications import Starlette
    other = obs.Telemetry(obs.Settings(service="admin", otlp_endpoint=ENDPOINT, metrics_exporter=("none",)))
    admin = obs.ObservabilityMiddleware(Starlette(), telemetry=other)
    obs.configure(service="shop")
    job()
    with TestClient(admin) as client:
        client.get("/missing")
    assert other.flush(10)
    assert obs.configure(service="shop").flush(10)
    """
    application = APPLICATION.replace("app.add_middleware", "# app.add_middleware")
    with HttpSink() as other_sink:
        code = code.replace("ENDPOINT", repr(other_sink.url))
        run("trace.set_tracer_provider(provider)\n" + application + textwrap.dedent(code), sink)
    assert [span.name for span in sink.received.spans] == ["run recount"]
    assert [span.name for span in other_sink.received.spans] == ["GET"]


def test_forked_child_exports_spans_of_the_set_provider(sink: HttpSink) -> None:
    code = """
    import os
    obs.configure(service="shop")
    job()
    child = os.fork()
    job()
    obs.configure(service="shop").flush(10)
    if child:
        assert os.waitpid(child, 0)[1] == 0
    else:
        os._exit(0)
    """
    application = APPLICATION.replace("app.add_middleware", "# app.add_middleware")
    run("trace.set_tracer_provider(provider)\n" + application + textwrap.dedent(code), sink)
    assert len(exported(sink)) == len(sink.received.spans) == 3


API_PROVIDER = """
class ApiProvider(trace.TracerProvider):
    def get_tracer(self, *arguments, **options):
        return provider.get_tracer(*arguments, **options)

trace.set_tracer_provider(ApiProvider())
"""


def test_provider_without_span_processors_is_used_and_warned_about_once(sink: HttpSink) -> None:
    result = run(API_PROVIDER + APPLICATION + REQUEST + "obs.configure().flush(10)\nreport(spans=seen())\n", sink)
    assert len(result.report["spans"]) == 7
    assert not sink.received.spans
    warnings = [text for text in result.messages("WARN") if "takes no span processors" in text]
    assert len(warnings) == 1


@pytest.mark.parametrize("provider", ["trace.NoOpTracerProvider()", "TracerProvider()"])
def test_set_provider_without_effect_leaves_tracing_to_this_package(provider: str, sink: HttpSink) -> None:
    disabled = "" if "NoOp" in provider else "import os; os.environ['OTEL_SDK_DISABLED'] = 'true'\n"
    restored = "" if "NoOp" in provider else "del os.environ['OTEL_SDK_DISABLED']\n"
    code = (
        f"{disabled}trace.set_tracer_provider({provider})\n{restored}{APPLICATION}{REQUEST}obs.configure().flush(10)\n"
    )
    run(code, sink)
    assert "GET /orders/{number}" in {span.name for span in sink.received.spans}


def test_providers_that_are_set_later_are_refused_and_logged_once_per_signal(sink: HttpSink) -> None:
    code = """
    obs.configure(service="shop")
    for _ in range(2):
        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    job()
    obs.configure(service="shop").flush(10)
    """
    application = APPLICATION.replace("app.add_middleware", "# app.add_middleware")
    result = run(application + textwrap.dedent(code), sink)
    lines = [line for line in result.lines if "stays in use" in str(line.get("message"))]
    assert [line["connectsoft.obs.signal"] for line in lines] == ["traces", "metrics"]
    assert not [text for text in result.messages("WARN") if "Overriding" in text]
    assert [span.name for span in sink.received.spans] == ["run recount"]


def test_set_meter_provider_keeps_its_instruments_and_own_metrics_are_exported(sink: HttpSink) -> None:
    code = """
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    """
    measured = """
    metrics.get_meter("shop").create_counter("shop.orders").add(3)
    with TestClient(app) as client:
        client.get("/orders/7")
    obs.configure().flush(10)
    names = [
        metric.name
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    report(names=names)
    """
    result = run(textwrap.dedent(code) + APPLICATION + textwrap.dedent(measured), sink)
    assert "shop.orders" in result.report["names"]
    assert "http.server.request.duration" not in result.report["names"]
    assert sink.received.metric("shop.orders") is None
    assert sink.received.metric("http.server.request.duration") is not None


def test_set_logger_provider_gets_records_with_the_same_ids(sink: HttpSink) -> None:
    code = """
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    logs = InMemoryLogRecordExporter()
    logger_provider = LoggerProvider()
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    set_logger_provider(logger_provider)
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logger_provider))
    trace.set_tracer_provider(provider)
    """
    report = """
    records = [item.log_record for item in logs.get_finished_logs()]
    report(records=[[record.body, f"{record.trace_id:032x}", f"{record.span_id:016x}"] for record in records])
    """
    application = APPLICATION + REQUEST + "obs.configure().flush(10)\n"
    result = run(textwrap.dedent(code) + application + textwrap.dedent(report), sink, OTEL_LOGS_EXPORTER="otlp")
    (line,) = [line for line in result.lines if line.get("message") == "priced"]
    assert ["priced", line["trace_id"], line["span_id"]] in result.report["records"]
    (record,) = [record for record in sink.received.logs if record.body.string_value == "priced"]
    assert (record.trace_id.hex(), record.span_id.hex()) == (line["trace_id"], line["span_id"])
