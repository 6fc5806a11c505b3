"""Export to Azure Application Insights: content of the envelopes, failures of the ingestion, and configuration errors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.app_insights_server import INSTRUMENTATION_KEY, AppInsightsServer
from support.otlp import HttpSink
from support.process import Service, uvicorn, wait_for
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.export import backoff
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.metrics import PausingList
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter
from connectsoft_obs.vocabulary import DROPPED, EXPORT_DURATION, EXPORTER_STATUS

CONNECTION_STRING_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
CONFIGURED = "observability configured"
EXPORT_FAILED = "export failed; retrying (telemetry is buffered)"
EXPORT_RECOVERED = "export recovered"
EXPORT_REFUSED = "export refused; telemetry is buffered"


@pytest.fixture
def azure() -> Iterator[AppInsightsServer]:
    with AppInsightsServer() as server:
        yield server


@pytest.fixture
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.05)


def environment(azure: AppInsightsServer, **variables: str) -> dict[str, str]:
    return {
        CONNECTION_STRING_VARIABLE: azure.connection_string,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "CONNECTSOFT_OBS_NAMESPACE": "saas-shop",
        "CONNECTSOFT_OBS_VERSION": "1.4.0",
        **variables,
    }


class ExportingTelemetry:
    """A Telemetry that exports some signals (traces by default) to Application Insights and captures its log lines."""

    def __init__(self, azure: AppInsightsServer, *signals: str, **options: Any) -> None:
        self.captured = Captured()
        disabled = {
            f"{signal}_exporter": "none" for signal in {"traces", "logs", "metrics"} - set(signals or ["traces"])
        }
        settings = load_settings(
            {}, service="faults", azure_connection_string=azure.connection_string, span_schedule_delay=0.02, log_schedule_delay=0.02,
            **{"otlp_timeout": 0.5, **disabled, **options},
        )  # fmt: skip
        self.telemetry = Telemetry(settings, output=CapturingLogWriter(self.captured), exports=True)

    def create_spans(self, count: int, prefix: str = "span") -> None:
        for number in range(count):
            self.telemetry.tracing.tracer.start_span(f"{prefix}-{number}").end()

    def dropped(self, signal: str = "traces") -> dict[str, float]:
        series = self.telemetry.metrics.family(DROPPED).children
        return {reason: child.cells[0] for (child_signal, reason), child in series.items() if child_signal == signal}

    def exporter_state(self, signal: str = "traces") -> float:
        return self.telemetry.metrics.family(EXPORTER_STATUS).number_series(signal).cells[0]

    def log_messages(self) -> list[str]:
        return [line["message"] for line in self.captured.logs]


def dependency_names(azure: AppInsightsServer) -> list[str]:
    return sorted(item["data"]["baseData"]["name"] for item in azure.envelopes_of("RemoteDependencyData"))


# --- Content of the envelopes -----------------------------------------------------------------------------------------
def test_signals_are_exported_as_application_insights_types(
    azure: AppInsightsServer,
) -> None:
    with uvicorn("orders:app", env=environment(azure)) as service:
        service.wait_until_ready()
        httpx.get(service.url + "/items/7")
        httpx.get(service.url + "/logged")
        httpx.get(service.url + "/boom")
        wait_for(lambda: len(azure.envelopes_of("RequestData")) == 3 and azure.envelopes_of("ExceptionData"), 15)
        wait_for(lambda: len(azure.metric_points("http.server.request.duration")) == 3, 15)
        assert service.stop() in (0, -15)
    assert {path.lstrip("/") for path in azure.request_paths} == {"v2.1/track"}
    assert {item["iKey"] for item in azure.envelopes} == {INSTRUMENTATION_KEY}
    assert {item["tags"]["ai.cloud.role"] for item in azure.envelopes} == {"saas-shop.orders-api"}
    assert {item["tags"]["ai.application.ver"] for item in azure.envelopes} == {"1.4.0"}
    assert len({item["tags"]["ai.cloud.roleInstance"] for item in azure.envelopes}) == 1

    [item] = azure.envelopes_named("RequestData", "GET /items/{id}")
    data = item["data"]["baseData"]
    assert (data["responseCode"], data["success"]) == ("200", True)
    assert data["url"] == f"{service.url}/items/7"
    access = next(line for line in service.json_lines if line["message"] == "GET /items/{id} 200")
    assert (item["tags"]["ai.operation.id"], data["id"]) == (access["trace_id"], access["span_id"])

    [line] = [
        item for item in azure.envelopes_of("MessageData") if item["data"]["baseData"]["message"] == "order placed"
    ]
    [logged_request] = azure.envelopes_named("RequestData", "GET /logged")
    assert line["tags"]["ai.operation.id"] == logged_request["tags"]["ai.operation.id"]
    assert line["tags"]["ai.operation.parentId"] == logged_request["data"]["baseData"]["id"]
    message_data = line["data"]["baseData"]
    assert message_data["severityLevel"] == 1
    assert message_data["properties"]["connectsoft.tenant.id"] == "acme"
    assert (message_data["properties"]["total"], message_data["properties"]["logger_name"]) == ("99.5", "orders")

    [exception_envelope] = azure.envelopes_of("ExceptionData")
    [failed_request] = azure.envelopes_named("RequestData", "GET /boom")
    assert not failed_request["data"]["baseData"]["success"]
    assert exception_envelope["tags"]["ai.operation.id"] == failed_request["tags"]["ai.operation.id"]
    [exception] = exception_envelope["data"]["baseData"]["exceptions"]
    assert (exception["typeName"], exception["message"]) == ("ValueError", "it broke")
    assert "raise ValueError(msg)" in exception["stack"]
    assert exception_envelope["data"]["baseData"]["properties"]["message"] == "unhandled exception in a request"

    durations = azure.metric_points("http.server.request.duration")
    assert {point["properties"]["http.route"] for point in durations} == {"/items/{id}", "/logged", "/boom"}
    assert all(point["count"] == 1 and 0 < point["value"] < 1 for point in durations), (
        "each duration is exported once, in seconds"
    )
    assert azure.metric_points("http.server.active_requests"), "the Azure exporter alone does not export this metric"


def test_outgoing_call_is_exported_as_dependency_of_its_request(azure: AppInsightsServer) -> None:
    with uvicorn("outgoing_calls:app", env=environment(azure)) as service:
        service.wait_until_ready()
        httpx.get(service.url + "/httpx")
        [call] = wait_for(lambda: azure.envelopes_of("RemoteDependencyData"), 15)
        wait_for(lambda: len(azure.envelopes_of("RequestData")) == 2, 15)
        service.stop()
    [outer] = azure.envelopes_named("RequestData", "GET /httpx")
    [inner] = azure.envelopes_named("RequestData", "GET /headers")
    assert call["data"]["baseData"]["type"] == "HTTP"
    assert call["data"]["baseData"]["target"] == service.url.removeprefix("http://")
    assert call["tags"]["ai.operation.parentId"] == outer["data"]["baseData"]["id"]
    assert inner["tags"]["ai.operation.parentId"] == call["data"]["baseData"]["id"]
    assert len({item["tags"]["ai.operation.id"] for item in (outer, inner, call)}) == 1
    assert len(azure.envelopes_of("RemoteDependencyData")) == 1, "export requests are not exported as dependencies"


def test_collector_and_azure_exports_are_independent(azure: AppInsightsServer) -> None:
    azure.set_mode("hang")
    with HttpSink() as sink:
        env = environment(azure, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
        with uvicorn("orders:app", env=env) as service:
            service.wait_until_ready()
            httpx.get(service.url + "/items/1")
            wait_for(lambda: len(sink.received.spans) == 1, 10)
            azure.set_mode("ok")
            wait_for(lambda: len(azure.envelopes_of("RequestData")) == 1, 20)
            service.stop()
        [configured] = [line for line in service.json_lines if line["message"] == CONFIGURED]
    ingestion_url = f"{azure.url}/v2.1/track"
    assert sorted(configured["connectsoft.obs.exports"]) == sorted(
        [
            f"traces to {sink.url}/v1/traces", f"metrics to {sink.url}/v1/metrics",
            f"traces to {ingestion_url}", f"metrics to {ingestion_url}", f"logs to {ingestion_url}",
        ]
    )  # fmt: skip
    assert sink.received.spans[0].trace_id.hex() == azure.envelopes_of("RequestData")[0]["tags"]["ai.operation.id"]


def test_exporter_settings_select_destinations(azure: AppInsightsServer) -> None:
    service = ExportingTelemetry(azure, "traces", "logs", traces_exporter="azuremonitor", logs_exporter="otlp")
    assert [processor.name for processor in service.telemetry.export_processors()] == ["logs", "traces-azure"]
    assert not ExportingTelemetry(azure, "traces", traces_exporter="none").telemetry.export_processors()
    assert not ExportingTelemetry(azure, "traces", "logs", "metrics", disabled=True).telemetry.export_processors()


RECORDS_BEFORE_CONFIGURE = """
import connectsoft_obs as obs
from opentelemetry import metrics
rows, orders = obs.counter("rows"), metrics.get_meter("shop").create_counter("orders")
rows.add(5)
orders.add(5)
telemetry = obs.configure(service="orders")
rows.add(1)
orders.add(1)
telemetry.shutdown()
"""


def test_measurements_at_import_are_part_of_one_delta_only(azure: AppInsightsServer) -> None:
    result = run_script(RECORDS_BEFORE_CONFIGURE, env=environment(azure))
    assert result.exit_code == 0, result.stderr
    assert [sum(point["value"] for point in azure.metric_points(name)) for name in ("rows", "orders")] == [6, 6]


def test_metrics_are_exported_as_deltas_that_include_failed_intervals(
    azure: AppInsightsServer,
) -> None:
    service = ExportingTelemetry(azure, "metrics", metric_interval=600.0)
    counter = service.telemetry.metrics.family(DROPPED).number_series("traces", "test_reason")

    def exported_values() -> list[float]:
        return [
            point["value"]
            for point in azure.metric_points("connectsoft.obs.dropped")
            if point["properties"]["connectsoft.obs.reason"] == "test_reason"
        ]

    counter.add(3)
    assert service.telemetry.flush(10)
    assert exported_values() == [3]
    counter.add(2)
    azure.set_mode("503")
    assert not service.telemetry.flush(10)
    counter.add(5)
    azure.set_mode("ok")
    assert service.telemetry.flush(10)
    assert sum(exported_values()) == 10
    values_before = exported_values()
    assert service.telemetry.flush(10)
    assert exported_values() == values_before, "nothing was added"
    service.telemetry.shutdown(2)


def test_nested_fields_of_a_log_line_are_json_text(azure: AppInsightsServer) -> None:
    service = ExportingTelemetry(azure, "logs")
    service.telemetry.logs.emit(30, "basket", {"items": [{"sku": "a", "count": 2}], "empty": None}, "shop")
    assert service.telemetry.flush(10)
    [line] = azure.envelopes_of("MessageData")
    assert line["data"]["baseData"]["properties"] == {"items": '[{"sku":"a","count":2}]', "logger_name": "shop"}
    assert line["data"]["baseData"]["severityLevel"] == 2
    service.telemetry.shutdown(2)


# --- Failures of the ingestion ----------------------------------------------------------------------------------------
FAULTS = [
    "refuse",
    "hang",
    "garbage",
    "cut",
    "reset",
    "page",
    "500",
    "502",
    "503",
    "504",
    "429",
    "429:1",
    "408",
    "401",
    "403",
]


@pytest.mark.usefixtures("_short_backoff")
@pytest.mark.parametrize("mode", FAULTS)
def test_queued_spans_are_delivered_after_recovery(
    azure: AppInsightsServer, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    azure.set_mode(mode)
    service = ExportingTelemetry(azure)
    service.create_spans(50)
    refused = mode in ("401", "403")
    wait_for(lambda: service.exporter_state() == (2 if refused else 1), 10, "the breaker opens")
    azure.set_mode("ok")
    wait_for(lambda: len(dependency_names(azure)) >= 50, 10, "50 spans")
    wait_for(lambda: service.exporter_state() == 0, 5, "the breaker closes")
    assert service.telemetry.shutdown(2)
    assert dependency_names(azure) == sorted(f"span-{number}" for number in range(50))
    assert service.dropped() == {}
    assert service.log_messages() == [EXPORT_REFUSED if refused else EXPORT_FAILED, EXPORT_RECOVERED]
    assert not [record.name for record in caplog.records if record.name.startswith("azure")], (
        "only one log line per state change, from this package"
    )


@pytest.mark.usefixtures("_short_backoff")
@pytest.mark.parametrize("mode", ["503", "500", "429:1"])
def test_every_attempt_is_made_and_counted_by_the_batch_processor(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = ExportingTelemetry(azure)
    service.create_spans(5)
    wait_for(lambda: azure.request_count >= 2, 10)
    service.telemetry.shutdown(1.0)
    cells = service.telemetry.metrics.family(EXPORT_DURATION).histogram_series("traces", "failure").cells
    assert azure.request_count == sum(cells[position] for position in range(1, len(cells)))


@pytest.mark.usefixtures("_short_backoff")
@pytest.mark.parametrize("mode", ["400", "402", "404", "439", "308"])
def test_permanent_failures_are_dropped_and_counted_without_retry(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = ExportingTelemetry(azure)
    service.create_spans(20)
    wait_for(lambda: service.dropped() == {f"http_{mode}": 20}, 10)
    attempts = azure.request_count
    azure.set_mode("ok")
    service.create_spans(5, "later")
    wait_for(lambda: len(dependency_names(azure)) == 5, 5)
    service.telemetry.shutdown(2)
    assert attempts < 20


@pytest.mark.usefixtures("_short_backoff")
def test_items_rejected_from_a_batch_are_counted(azure: AppInsightsServer) -> None:
    azure.set_mode("partial")
    service = ExportingTelemetry(azure)
    service.create_spans(10)
    wait_for(lambda: service.dropped().get("rejected"), 10)
    assert service.telemetry.shutdown(2)
    assert service.exporter_state() == 0
    assert set(service.dropped()) == {"rejected"}


@pytest.mark.usefixtures("_short_backoff")
def test_batch_that_is_too_large_is_split(azure: AppInsightsServer) -> None:
    original = azure._respond

    def respond_with_size_limit(connection: Any, path: str, body: bytes, headers: dict[str, str]) -> bool:
        azure.mode = "413" if len(body) > 9000 else "ok"
        return original(connection, path, body, headers)

    azure._respond = respond_with_size_limit  # type: ignore[method-assign]
    service = ExportingTelemetry(azure)
    service.create_spans(100)
    assert service.telemetry.shutdown(10)
    assert len(dependency_names(azure)) == len(set(dependency_names(azure))) == 100
    assert service.dropped() == {}


@pytest.mark.usefixtures("_short_backoff")
def test_span_that_cannot_be_encoded_does_not_affect_others(azure: AppInsightsServer) -> None:
    service = ExportingTelemetry(azure)
    service.create_spans(7, "before")
    span = service.telemetry.tracing.tracer.start_span("invalid end")
    span.end(10**30)  # outside the range of datetime
    service.telemetry.tracing.tracer.start_span("invalid start", start_time=10**30).end()
    service.create_spans(7, "after")
    service.telemetry.shutdown(10)
    assert {name for name in dependency_names(azure) if not name.startswith("invalid end")} == {
        *(f"before-{number}" for number in range(7)), *(f"after-{number}" for number in range(7)),
    }  # fmt: skip
    assert service.dropped()["internal_error"] >= 1


def test_redirects_are_followed_only_within_the_same_host(azure: AppInsightsServer) -> None:
    with AppInsightsServer() as other_server:
        azure.set_mode(f"redirect:{other_server.url.replace('127.0.0.1', 'localhost')}")
        service = ExportingTelemetry(azure)
        service.create_spans(3)
        wait_for(lambda: service.dropped() == {"http_308": 3}, 10)
        azure.set_mode(f"redirect:{other_server.url}")
        service.create_spans(2, "redirected")
        wait_for(lambda: dependency_names(other_server) == ["redirected-0", "redirected-1"], 10)
        service.telemetry.shutdown(2)


def test_queue_is_bounded_and_every_dropped_span_is_counted(azure: AppInsightsServer) -> None:
    azure.set_mode("hang")
    service = ExportingTelemetry(azure, span_max_queue_size=100, span_max_export_batch_size=10, otlp_timeout=10.0)
    service.create_spans(500)
    pending = service.telemetry.export_processors()[0].pending
    assert pending <= 110, "the queue and the batch that is being sent"
    assert service.dropped() == {"queue_full": 500 - pending}
    start = time.monotonic()
    assert not service.telemetry.shutdown(0.5)
    assert time.monotonic() - start < 1.5
    assert service.dropped() == {"queue_full": 500 - pending, "shutdown": pending}


@pytest.mark.parametrize("mode", [*FAULTS, "slow:10"])
def test_shutdown_meets_its_timeout_and_counts_every_span(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = ExportingTelemetry(azure, otlp_timeout=10.0)
    service.create_spans(40)
    start = time.monotonic()
    service.telemetry.shutdown(1.0)
    assert time.monotonic() - start < 2.0
    assert sum(service.dropped().values()) == 40
    service.create_spans(3, "after")
    assert sum(service.dropped().values()) == 43


@pytest.mark.parametrize("mode", ["hang", "500", "429", "refuse"])
def test_ingestion_failures_do_not_delay_requests_or_shutdown(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    env = environment(azure, CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT="1")
    with uvicorn("orders:app", env=env) as service:
        service.wait_until_ready()
        with httpx.Client() as client:
            client.get(service.url + "/items/0")
            durations = []
            for number in range(100):
                start = time.perf_counter()
                assert client.get(f"{service.url}/items/{number}").json() == {"id": number}
                durations.append(time.perf_counter() - start)
        assert sorted(durations)[50] < 0.1, "requests do not wait for the ingestion"
        if mode != "refuse":
            wait_for(lambda: azure.request_count, 10)
        start = time.monotonic()
        assert service.stop() in (0, -15)
        assert time.monotonic() - start < 5
    messages = [line["message"] for line in service.json_lines]
    assert "stopping with unsent telemetry" in messages
    assert messages.count(EXPORT_FAILED) <= 3, "one for each signal"
    loggers = {line["logger"] for line in service.json_lines}
    assert not {name for name in loggers if name.startswith(("azure", "urllib3", "requests"))}, service.output


def test_metrics_report_dropped_items_and_exporter_state(azure: AppInsightsServer) -> None:
    azure.set_mode("400")
    with uvicorn("orders:app", env=environment(azure)) as service:
        service.wait_until_ready()
        httpx.get(service.url + "/items/1")
        wait_for(
            lambda: 'connectsoft_obs_reason="http_400",connectsoft_obs_signal="traces"' in _metrics_page(service), 15
        )
        azure.set_mode("503")
        wait_for(lambda: 'state="open",connectsoft_obs_signal="traces"} 1' in _metrics_after_request(service), 15)
        azure.set_mode("ok")
        wait_for(lambda: 'state="closed",connectsoft_obs_signal="traces"} 1' in _metrics_after_request(service), 15)


def _metrics_after_request(service: Service) -> str:
    httpx.get(service.url + "/items/1")
    return _metrics_page(service)


def _metrics_page(service: Service) -> str:
    """Return the metrics page with the labels of each series in alphabetical order."""
    lines = []
    for line in httpx.get(service.url + "/metrics").text.splitlines():
        name, brace, labels_and_value = line.partition("{")
        labels, _, value = labels_and_value.rpartition("}")
        lines.append(f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}" if brace else line)
    return "\n".join(lines)


def test_batches_are_iterated_with_pauses() -> None:
    pauses: list[int] = []
    assert list(PausingList("abc", lambda: pauses.append(1))) == ["a", "b", "c"]
    assert len(pauses) == 3
    service = Telemetry(
        load_settings({CONNECTION_STRING_VARIABLE: f"InstrumentationKey={INSTRUMENTATION_KEY}"}), exports=True
    )
    builders = {processor.name: processor._build_request for processor in service.export_processors()}
    assert isinstance(builders["traces-azure"]([]), PausingList)
    assert isinstance(builders["logs-azure"]([]), PausingList)


# --- Imports, threads and forks ---------------------------------------------------------------------------------------
def test_azure_packages_are_imported_on_first_export_only(
    azure: AppInsightsServer,
) -> None:
    script = """
import sys, threading
import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings
def loaded(): return [name for name in sys.modules if name.startswith(("azure.core", "azure.monitor.opentelemetry.exporter", "requests"))]
telemetry = obs.Telemetry(load_settings({}, azure_connection_string=sys.argv[1], instrumentations="none"), exports=True)
assert not loaded(), loaded()
assert threading.active_count() == 1
telemetry.tracing.tracer.start_span("first").end()
assert telemetry.flush(20)
assert loaded()
names = sorted(thread.name for thread in threading.enumerate())
assert names == ["MainThread", "obs-metrics-azure", "obs-traces-azure"], names
import os
assert not [name for name in os.environ if name.startswith("APPLICATIONINSIGHTS")]
"""
    command = [sys.executable, "-W", "error", "-c", script, azure.connection_string]
    completed = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60)
    assert completed.returncode == 0, completed.stderr.decode()
    assert dependency_names(azure) == ["first"]


def test_azure_packages_are_not_imported_without_connection_string() -> None:
    script = (
        "import sys, connectsoft_obs as obs; from connectsoft_obs.settings import load_settings; "
        "t = obs.Telemetry(load_settings({}), exports=True); t.tracing.tracer.start_span('x').end(); t.flush(1); "
        "print([n for n in sys.modules if n.startswith('azure')])"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=True)
    assert completed.stdout.strip() == b"[]"


def test_forked_child_and_parent_export_their_own_spans(azure: AppInsightsServer) -> None:
    service = ExportingTelemetry(azure)
    service.create_spans(2, "parent")
    assert service.telemetry.flush(10)
    child = os.fork()
    if child == 0:
        try:
            service.create_spans(3, "child")
            os._exit(0 if service.telemetry.shutdown(5) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    service.telemetry.shutdown(2)
    assert dependency_names(azure) == ["child-0", "child-1", "child-2", "parent-0", "parent-1"]
    assert len({item["tags"]["ai.cloud.roleInstance"] for item in azure.envelopes_of("RemoteDependencyData")}) == 2


def test_unused_telemetry_starts_no_thread() -> None:
    before = set(threading.enumerate())
    obs.Telemetry(load_settings({}, azure_connection_string=f"InstrumentationKey={INSTRUMENTATION_KEY}"), exports=True)
    assert set(threading.enumerate()) <= before


# --- Configuration errors ---------------------------------------------------------------------------------------------
INVALID_CONNECTION_STRINGS = {
    "nonsense": "key=value pairs",
    f"InstrumentationKey={INSTRUMENTATION_KEY};": "key=value pairs",
    "IngestionEndpoint=https://westeurope-1.in.applicationinsights.azure.com/": "InstrumentationKey is missing",
    "InstrumentationKey=my-key": "not a lower-case UUID",
    f"InstrumentationKey={INSTRUMENTATION_KEY.upper()}": "lower-case",
    f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=westeurope": "IngestionEndpoint",
    f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=http://[half": "IngestionEndpoint",
    f"InstrumentationKey={INSTRUMENTATION_KEY};Authorization=password": "Authorization",
}


@pytest.mark.parametrize("connection_string", INVALID_CONNECTION_STRINGS)
def test_invalid_connection_string_is_rejected_without_showing_it(connection_string: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=INVALID_CONNECTION_STRINGS[connection_string]) as raised:
        Telemetry(load_settings({}, azure_connection_string=connection_string), exports=True)
    assert "azure_connection_string=..." in str(raised.value)
    assert connection_string not in str(raised.value)
    assert INSTRUMENTATION_KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("connection_string", "address"),
    [
        (f"InstrumentationKey={INSTRUMENTATION_KEY}", "https://dc.services.visualstudio.com/v2.1/track"),
        (
            f"instrumentationkey={INSTRUMENTATION_KEY};EndpointSuffix=applicationinsights.azure.cn;Location=chinaeast2",
            "https://chinaeast2.dc.applicationinsights.azure.cn/v2.1/track",
        ),
    ],
)
def test_ingestion_address_follows_the_connection_string(connection_string: str, address: str) -> None:
    telemetry = Telemetry(load_settings({CONNECTION_STRING_VARIABLE: connection_string}), exports=True)
    assert telemetry.exporters is not None
    assert telemetry.exporters.addresses == [f"{signal} to {address}" for signal in ("traces", "metrics", "logs")]


def test_azuremonitor_exporter_requires_a_connection_string() -> None:
    with pytest.raises(obs.ConfigurationError, match="no connection string"):
        Telemetry(load_settings({}, traces_exporter="azuremonitor"), exports=True)


@pytest.mark.parametrize("is_selected", [False, True])
def test_missing_azure_extra_disables_the_exporter_only(tmp_path: Any, is_selected: bool) -> None:
    folder = tmp_path / "import_blocker"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class ImportBlocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('azure.monitor'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, ImportBlocker())\n"
    )
    paths = os.pathsep.join([str(folder), os.path.join(os.path.dirname(os.path.dirname(__file__)), "apps")])
    env = {CONNECTION_STRING_VARIABLE: f"InstrumentationKey={INSTRUMENTATION_KEY}", "PYTHONPATH": paths}
    if is_selected:
        env["OTEL_TRACES_EXPORTER"] = "azuremonitor"
    with uvicorn("orders:app", "--lifespan", "on", env=env) as service:
        service.wait_until_ready()
        assert httpx.get(f"{service.url}/items/1").status_code == 200
        lines = [(line["severity"], line["message"]) for line in service.json_lines if line["severity"] != "INFO"]
    [(_, warning)] = [line for line in lines if line[0] == "WARN"]
    assert CONNECTION_STRING_VARIABLE in warning
    assert ["OTEL_TRACES_EXPORTER" in message for severity, message in lines if severity == "ERROR"] == (
        [True] if is_selected else []
    )
    assert "connectsoft-obs[azure]" in service.output
    assert INSTRUMENTATION_KEY not in service.output
