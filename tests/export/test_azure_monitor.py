"""Azure Application Insights: what arrives there, and what its absence does not do to a service."""

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

import connectsoft_obs as obs
from connectsoft_obs.export import backoff
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.metrics import PausingList
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import _Kept
from connectsoft_obs.vocabulary import DROPPED, EXPORT_DURATION, EXPORTER_STATUS

VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
ON = "observability configured"
DOWN = "export failed; retrying (telemetry is buffered)"
UP = "export recovered"


@pytest.fixture
def azure() -> Iterator[AppInsightsServer]:
    with AppInsightsServer() as found:
        yield found


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.05)


def environment(azure: AppInsightsServer, **more: str) -> dict[str, str]:
    return {
        VARIABLE: azure.connection_string,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "CONNECTSOFT_OBS_NAMESPACE": "saas-shop",
        "CONNECTSOFT_OBS_VERSION": "1.4.0",
        **more,
    }


class Observed:
    """A Telemetry that sends one signal, or those that are asked for, to Application Insights; and what it logs."""

    def __init__(self, azure: AppInsightsServer, *signals: str, **options: Any) -> None:
        self.seen = Captured()
        off = {f"{signal}_exporter": "none" for signal in {"traces", "logs", "metrics"} - set(signals or ["traces"])}
        settings = load_settings(
            {}, service="faults", azure_connection_string=azure.connection_string, span_schedule_delay=0.02, log_schedule_delay=0.02,
            **{"otlp_timeout": 0.5, **off, **options},
        )  # fmt: skip
        self.telemetry = Telemetry(settings, output=_Kept(self.seen), exports=True)

    def spans(self, count: int, prefix: str = "span") -> None:
        for number in range(count):
            self.telemetry.tracing.tracer.start_span(f"{prefix}-{number}").end()

    def dropped(self, signal: str = "traces") -> dict[str, float]:
        series = self.telemetry.metrics.family(DROPPED).children
        return {reason: child.cells[0] for (of, reason), child in series.items() if of == signal}

    def state(self, signal: str = "traces") -> float:
        return self.telemetry.metrics.family(EXPORTER_STATUS).number(signal).cells[0]

    def lines(self) -> list[str]:
        return [line["message"] for line in self.seen.logs]


def names(azure: AppInsightsServer) -> list[str]:
    return sorted(item["data"]["baseData"]["name"] for item in azure.envelopes_of("RemoteDependencyData"))


# --- What arrives -----------------------------------------------------------------------------------------------------
def test_requests_lines_exceptions_and_metrics_of_a_service_arrive_as_what_the_portal_knows(
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

    [line] = [one for one in azure.envelopes_of("MessageData") if one["data"]["baseData"]["message"] == "order placed"]
    [logged] = azure.envelopes_named("RequestData", "GET /logged")
    assert line["tags"]["ai.operation.id"] == logged["tags"]["ai.operation.id"]
    assert line["tags"]["ai.operation.parentId"] == logged["data"]["baseData"]["id"]
    said = line["data"]["baseData"]
    assert said["severityLevel"] == 1
    assert said["properties"]["connectsoft.tenant.id"] == "acme"
    assert (said["properties"]["total"], said["properties"]["logger_name"]) == ("99.5", "orders")

    [raised] = azure.envelopes_of("ExceptionData")
    [boom] = azure.envelopes_named("RequestData", "GET /boom")
    assert not boom["data"]["baseData"]["success"]
    assert raised["tags"]["ai.operation.id"] == boom["tags"]["ai.operation.id"]
    [exception] = raised["data"]["baseData"]["exceptions"]
    assert (exception["typeName"], exception["message"]) == ("ValueError", "it broke")
    assert "raise ValueError(msg)" in exception["stack"]
    assert raised["data"]["baseData"]["properties"]["message"] == "unhandled exception in a request"

    durations = azure.metric_points("http.server.request.duration")
    assert {point["properties"]["http.route"] for point in durations} == {"/items/{id}", "/logged", "/boom"}
    assert all(point["count"] == 1 and 0 < point["value"] < 1 for point in durations), "seconds, each once"
    assert azure.metric_points("http.server.active_requests"), "which the exporter itself leaves out"


def test_an_outgoing_call_arrives_as_a_dependency_of_its_request(azure: AppInsightsServer) -> None:
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
    assert len(azure.envelopes_of("RemoteDependencyData")) == 1, "our own exports are nobody's dependency"


def test_with_a_collector_too_both_get_everything_and_neither_waits_for_the_other(azure: AppInsightsServer) -> None:
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
        [on] = [line for line in service.json_lines if line["message"] == ON]
    insights = f"{azure.url}/v2.1/track"
    assert sorted(on["exports"]) == sorted(
        [
            f"traces to {sink.url}/v1/traces", f"metrics to {sink.url}/v1/metrics",
            f"traces to {insights}", f"metrics to {insights}", f"logs to {insights}",
        ]
    )  # fmt: skip
    assert sink.received.spans[0].trace_id.hex() == azure.envelopes_of("RequestData")[0]["tags"]["ai.operation.id"]


def test_the_exporter_lists_choose_among_destinations(azure: AppInsightsServer) -> None:
    chosen = Observed(azure, "traces", "logs", traces_exporter="azuremonitor", logs_exporter="otlp")
    assert [line.name for line in chosen.telemetry.export_processors()] == ["logs", "traces-azure"]
    assert not Observed(azure, "traces", traces_exporter="none").telemetry.export_processors()
    assert not Observed(azure, "traces", "logs", "metrics", disabled=True).telemetry.export_processors()


def test_counters_and_histograms_arrive_as_what_was_added_and_a_lost_interval_is_in_the_next(
    azure: AppInsightsServer,
) -> None:
    service = Observed(azure, "metrics", metric_interval=600.0)
    placed = service.telemetry.metrics.family(DROPPED).number("traces", "for_a_test")

    def sent() -> list[float]:
        return [
            point["value"]
            for point in azure.metric_points("connectsoft.obs.dropped")
            if point["properties"]["connectsoft.obs.reason"] == "for_a_test"
        ]

    placed.add(3)
    assert service.telemetry.flush(10)
    assert sent() == [3]
    placed.add(2)
    azure.set_mode("503")
    assert not service.telemetry.flush(10)
    placed.add(5)
    azure.set_mode("ok")
    assert service.telemetry.flush(10)
    assert sum(sent()) == 10
    points = sent()
    assert service.telemetry.flush(10)
    assert sent() == points, "nothing was added"
    service.telemetry.shutdown(2)


def test_nested_values_of_a_line_are_json_text(azure: AppInsightsServer) -> None:
    service = Observed(azure, "logs")
    service.telemetry.logs.emit(30, "basket", {"items": [{"sku": "a", "count": 2}], "empty": None}, "shop")
    assert service.telemetry.flush(10)
    [line] = azure.envelopes_of("MessageData")
    assert line["data"]["baseData"]["properties"] == {"items": '[{"sku":"a","count":2}]', "logger_name": "shop"}
    assert line["data"]["baseData"]["severityLevel"] == 2
    service.telemetry.shutdown(2)


# --- When it is not to be had -----------------------------------------------------------------------------------------
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


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("mode", FAULTS)
def test_what_was_queued_is_delivered_once_it_is_back(
    azure: AppInsightsServer, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    azure.set_mode(mode)
    service = Observed(azure)
    service.spans(50)
    wait_for(lambda: service.state() == 1, 10, "the breaker opens")
    azure.set_mode("ok")
    wait_for(lambda: len(names(azure)) >= 50, 10, "50 spans")
    wait_for(lambda: service.state() == 0, 5, "the breaker closes")
    assert service.telemetry.shutdown(2)
    assert names(azure) == sorted(f"span-{number}" for number in range(50))
    assert service.dropped() == {}
    assert service.lines() == [DOWN, UP]
    assert not [record.name for record in caplog.records if record.name.startswith("azure")], "one line a change"


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("mode", ["503", "500", "429:1"])
def test_every_attempt_is_one_of_the_pipeline(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = Observed(azure)
    service.spans(5)
    wait_for(lambda: azure.request_count >= 2, 10)
    service.telemetry.shutdown(1.0)
    cells = service.telemetry.metrics.family(EXPORT_DURATION).histogram("traces", "failure").cells
    assert azure.request_count == sum(cells[position] for position in range(1, len(cells)))


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("mode", ["400", "402", "404", "439", "308"])
def test_what_is_refused_for_good_is_dropped_counted_and_not_tried_again(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = Observed(azure)
    service.spans(20)
    wait_for(lambda: service.dropped() == {f"http_{mode}": 20}, 10)
    attempts = azure.request_count
    azure.set_mode("ok")
    service.spans(5, "later")
    wait_for(lambda: len(names(azure)) == 5, 5)
    service.telemetry.shutdown(2)
    assert attempts < 20


@pytest.mark.usefixtures("_quick")
def test_items_that_are_refused_out_of_a_batch_are_counted(azure: AppInsightsServer) -> None:
    azure.set_mode("partial")
    service = Observed(azure)
    service.spans(10)
    wait_for(lambda: service.dropped().get("rejected"), 10)
    assert service.telemetry.shutdown(2)
    assert service.state() == 0
    assert set(service.dropped()) == {"rejected"}


@pytest.mark.usefixtures("_quick")
def test_too_large_a_batch_is_halved_until_it_fits(azure: AppInsightsServer) -> None:
    original = azure._respond

    def limited(connection: Any, path: str, body: bytes, headers: dict[str, str]) -> bool:
        azure.mode = "413" if len(body) > 9000 else "ok"
        return original(connection, path, body, headers)

    azure._respond = limited  # type: ignore[method-assign]
    service = Observed(azure)
    service.spans(100)
    assert service.telemetry.shutdown(10)
    assert len(names(azure)) == len(set(names(azure))) == 100
    assert service.dropped() == {}


@pytest.mark.usefixtures("_quick")
def test_one_span_that_cannot_be_an_envelope_costs_no_other(azure: AppInsightsServer) -> None:
    service = Observed(azure)
    service.spans(7, "before")
    span = service.telemetry.tracing.tracer.start_span("odd")
    span.end(10**30)  # a moment that no calendar has
    service.telemetry.tracing.tracer.start_span("never", start_time=10**30).end()
    service.spans(7, "after")
    service.telemetry.shutdown(10)
    assert {name for name in names(azure) if not name.startswith("odd")} == {
        *(f"before-{number}" for number in range(7)), *(f"after-{number}" for number in range(7)),
    }  # fmt: skip
    assert service.dropped()["internal_error"] >= 1


def test_a_move_of_the_resource_is_followed_within_its_host_and_never_beyond(azure: AppInsightsServer) -> None:
    with AppInsightsServer() as stranger:
        azure.set_mode(f"redirect:{stranger.url.replace('127.0.0.1', 'localhost')}")
        service = Observed(azure)
        service.spans(3)
        wait_for(lambda: service.dropped() == {"http_308": 3}, 10)
        azure.set_mode(f"redirect:{stranger.url}")
        service.spans(2, "moved")
        wait_for(lambda: names(stranger) == ["moved-0", "moved-1"], 10)
        service.telemetry.shutdown(2)


def test_the_queue_is_bounded_and_every_span_accounted_for(azure: AppInsightsServer) -> None:
    azure.set_mode("hang")
    service = Observed(azure, span_max_queue_size=100, span_max_export_batch_size=10, otlp_timeout=10.0)
    service.spans(500)
    kept = service.telemetry.export_processors()[0].pending
    assert kept <= 110, "the queue, and a batch that is being sent"
    assert service.dropped() == {"queue_full": 500 - kept}
    began = time.monotonic()
    assert not service.telemetry.shutdown(0.5)
    assert time.monotonic() - began < 1.5
    assert service.dropped() == {"queue_full": 500 - kept, "shutdown": kept}


@pytest.mark.parametrize("mode", [*FAULTS, "slow:10"])
def test_a_shutdown_ends_in_time_and_accounts_for_every_span(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    service = Observed(azure, otlp_timeout=10.0)
    service.spans(40)
    began = time.monotonic()
    service.telemetry.shutdown(1.0)
    assert time.monotonic() - began < 2.0
    assert sum(service.dropped().values()) == 40
    service.spans(3, "after")
    assert sum(service.dropped().values()) == 43


@pytest.mark.parametrize("mode", ["hang", "500", "429", "refuse"])
def test_requests_are_not_disturbed_and_the_service_stops_in_time(azure: AppInsightsServer, mode: str) -> None:
    azure.set_mode(mode)
    env = environment(azure, CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT="1")
    with uvicorn("orders:app", env=env) as service:
        service.wait_until_ready()
        with httpx.Client() as client:
            client.get(service.url + "/items/0")
            took = []
            for number in range(100):
                began = time.perf_counter()
                assert client.get(f"{service.url}/items/{number}").json() == {"id": number}
                took.append(time.perf_counter() - began)
        assert sorted(took)[50] < 0.1, "milliseconds, whatever the ingestion does"
        if mode != "refuse":
            wait_for(lambda: azure.request_count, 10)
        began = time.monotonic()
        assert service.stop() in (0, -15)
        assert time.monotonic() - began < 5
    said = [line["message"] for line in service.json_lines]
    assert "stopping with unsent telemetry" in said
    assert said.count(DOWN) <= 3, "one for each signal"
    loggers = {line["logger"] for line in service.json_lines}
    assert not {name for name in loggers if name.startswith(("azure", "urllib3", "requests"))}, service.output


def test_metrics_say_what_was_dropped_and_how_the_exporter_is(azure: AppInsightsServer) -> None:
    azure.set_mode("400")
    with uvicorn("orders:app", env=environment(azure)) as service:
        service.wait_until_ready()
        httpx.get(service.url + "/items/1")
        wait_for(lambda: 'connectsoft_obs_reason="http_400",connectsoft_obs_signal="traces"' in _page(service), 15)
        azure.set_mode("503")
        wait_for(lambda: 'state="open",connectsoft_obs_signal="traces"} 1' in _ended(service), 15)
        azure.set_mode("ok")
        wait_for(lambda: 'state="closed",connectsoft_obs_signal="traces"} 1' in _ended(service), 15)


def _ended(service: Service) -> str:
    httpx.get(service.url + "/items/1")
    return _page(service)


def _page(service: Service) -> str:
    """The page with the labels of each series in alphabetical order, as tests compare them."""
    lines = []
    for line in httpx.get(service.url + "/metrics").text.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, value = rest.rpartition("}")
        lines.append(f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}" if brace else line)
    return "\n".join(lines)


def test_a_batch_is_gone_through_with_rests() -> None:
    rests: list[int] = []
    assert list(PausingList("abc", lambda: rests.append(1))) == ["a", "b", "c"]
    assert len(rests) == 3
    service = Telemetry(load_settings({VARIABLE: f"InstrumentationKey={INSTRUMENTATION_KEY}"}), exports=True)
    packed = {line.name: line._build_request for line in service.export_processors()}
    assert isinstance(packed["traces-azure"]([]), PausingList)
    assert isinstance(packed["logs-azure"]([]), PausingList)


# --- What it does not do ----------------------------------------------------------------------------------------------
def test_nothing_of_azure_is_imported_before_something_is_sent_and_then_in_its_own_thread(
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
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert names(azure) == ["first"]


def test_a_service_without_a_connection_string_imports_nothing_of_it() -> None:
    script = (
        "import sys, connectsoft_obs as obs; from connectsoft_obs.settings import load_settings; "
        "t = obs.Telemetry(load_settings({}), exports=True); t.tracing.tracer.start_span('x').end(); t.flush(1); "
        "print([n for n in sys.modules if n.startswith('azure')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=True)
    assert done.stdout.strip() == b"[]"


def test_a_forked_child_sends_its_own_and_the_parent_its_own(azure: AppInsightsServer) -> None:
    service = Observed(azure)
    service.spans(2, "parent")
    assert service.telemetry.flush(10)
    child = os.fork()
    if child == 0:
        try:
            service.spans(3, "child")
            os._exit(0 if service.telemetry.shutdown(5) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    service.telemetry.shutdown(2)
    assert names(azure) == ["child-0", "child-1", "child-2", "parent-0", "parent-1"]
    assert len({item["tags"]["ai.cloud.roleInstance"] for item in azure.envelopes_of("RemoteDependencyData")}) == 2


def test_a_telemetry_that_was_never_used_starts_no_thread() -> None:
    before = set(threading.enumerate())
    obs.Telemetry(load_settings({}, azure_connection_string=f"InstrumentationKey={INSTRUMENTATION_KEY}"), exports=True)
    assert set(threading.enumerate()) <= before


# --- What cannot work -------------------------------------------------------------------------------------------------
IMPOSSIBLE = {
    "nonsense": "key=value pairs",
    f"InstrumentationKey={INSTRUMENTATION_KEY};": "key=value pairs",
    "IngestionEndpoint=https://westeurope-1.in.applicationinsights.azure.com/": "InstrumentationKey is missing",
    "InstrumentationKey=my-key": "not a lower-case UUID",
    f"InstrumentationKey={INSTRUMENTATION_KEY.upper()}": "lower-case",
    f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=westeurope": "IngestionEndpoint",
    f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=http://[half": "IngestionEndpoint",
    f"InstrumentationKey={INSTRUMENTATION_KEY};Authorization=password": "Authorization",
}


@pytest.mark.parametrize("given", IMPOSSIBLE)
def test_a_connection_string_that_cannot_work_is_refused_at_the_start_without_showing_it(given: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=IMPOSSIBLE[given]) as refused:
        Telemetry(load_settings({VARIABLE: given}), exports=True)
    assert VARIABLE in str(refused.value)
    assert given not in str(refused.value)
    assert INSTRUMENTATION_KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (f"InstrumentationKey={INSTRUMENTATION_KEY}", "https://dc.services.visualstudio.com/v2.1/track"),
        (
            f"instrumentationkey={INSTRUMENTATION_KEY};EndpointSuffix=applicationinsights.azure.cn;Location=chinaeast2",
            "https://chinaeast2.dc.applicationinsights.azure.cn/v2.1/track",
        ),
    ],
)
def test_the_address_is_what_the_connection_string_says(given: str, address: str) -> None:
    telemetry = Telemetry(load_settings({VARIABLE: given}), exports=True)
    assert telemetry.exporters is not None
    assert telemetry.exporters.addresses == [f"{signal} to {address}" for signal in ("traces", "metrics", "logs")]


def test_a_list_that_names_it_needs_a_connection_string() -> None:
    with pytest.raises(obs.ConfigurationError, match="no connection string"):
        Telemetry(load_settings({"OTEL_TRACES_EXPORTER": "azuremonitor"}), exports=True)


@pytest.mark.parametrize("named", [False, True])
def test_without_the_extra_a_list_that_names_it_is_refused_and_the_variable_alone_is_warned_of(
    tmp_path: Any, named: bool
) -> None:
    folder = tmp_path / "hiding"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('azure.monitor'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    paths = os.pathsep.join([str(folder), os.path.join(os.path.dirname(os.path.dirname(__file__)), "apps")])
    env = {VARIABLE: f"InstrumentationKey={INSTRUMENTATION_KEY}", "PYTHONPATH": paths}
    if named:
        env["OTEL_TRACES_EXPORTER"] = "azuremonitor"
    with uvicorn("orders:app", "--lifespan", "on", env=env) as service:
        if named:
            assert service.process.wait(20) != 0
            for reader in service._readers:
                reader.join(5)
        else:
            service.wait_until_ready()
            assert httpx.get(f"{service.url}/items/1").status_code == 200
            [warning] = [line for line in service.json_lines if line["severity"] == "WARN"]
            assert VARIABLE in warning["message"]
    assert "connectsoft-obs[azure]" in service.output
    assert INSTRUMENTATION_KEY not in service.output
