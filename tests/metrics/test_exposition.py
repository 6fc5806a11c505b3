"""The metrics page: formats, content negotiation, filters, compression, access, and rendering outside the event loop."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from support.exposition import MetricsPage, parse_page
from support.process import uvicorn

from connectsoft_obs.endpoints import EndpointRequest, EndpointResponse, EndpointRouter
from connectsoft_obs.endpoints.metrics_page import accepts_gzip, prefers_openmetrics
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, LOG_RECORDS, METRICS, REQUEST_DURATION, Instrument

PROMETHEUS_ACCEPT = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)
OPENMETRICS = {b"accept": b"application/openmetrics-text"}


def create_telemetry(**settings: object) -> Telemetry:
    return Telemetry(load_settings({}, service="shop", **settings), environ={}, exports=False)


@pytest.fixture
def shop() -> Iterator[Telemetry]:
    telemetry = create_telemetry()
    series = telemetry.metrics.family(REQUEST_DURATION).histogram_series("GET", "http", "200", "/items/{id}", "", "1.1")
    series.add_exemplar(series.observe(0.02), 0.02, 0xABC, 0xDEF)
    telemetry.metrics.add(LOG_RECORDS, ("info",), 3)
    yield telemetry
    telemetry.shutdown(0)


def request_page(telemetry: Telemetry, query: bytes = b"", **headers: bytes) -> EndpointResponse:
    request_headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return EndpointRouter(telemetry).pages["/metrics"](EndpointRequest("GET", query, request_headers, "127.0.0.1"))


def render_page(metrics: MetricRegistry, openmetrics: bool) -> MetricsPage:
    parts = Exposition(openmetrics).format_families(metrics.snapshots(), lambda: None)
    return parse_page("".join([*parts, "# EOF\n" if openmetrics else ""]), openmetrics)


# --- Formats ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", True),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.9", True),
        ("text/plain,application/openmetrics-text;q=0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("APPLICATION/OPENMETRICS-TEXT", True),
        (PROMETHEUS_ACCEPT, True),
        (",;;=,q=", False),
    ],
)
def test_format_follows_the_accept_header(accept: str, openmetrics: bool) -> None:
    assert prefers_openmetrics(accept) is openmetrics


@given(st.text(max_size=200))
def test_content_negotiation_accepts_any_header(header: str) -> None:
    assert prefers_openmetrics(header) in (True, False)
    assert accepts_gzip(header) in (True, False)


def test_both_formats_are_parsed_by_prometheus_client(shop: Telemetry) -> None:
    text_response = request_page(shop)
    assert text_response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    text_page = parse_page(text_response.body.decode(), openmetrics=False)
    openmetrics_response = request_page(shop, accept=b"application/openmetrics-text")
    assert openmetrics_response.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    openmetrics_page = parse_page(openmetrics_response.body.decode(), openmetrics=True)
    for page in (text_page, openmetrics_page):
        assert page.value("http_server_request_duration_seconds_count", http_route="/items/{id}") == 1
        assert page.value("connectsoft_log_records_total", connectsoft_log_severity="info") == 3
        assert page.value("target_info", service_name="shop") == 1
    assert [
        exemplar.labels for exemplar in openmetrics_page.exemplars("http_server_request_duration_seconds_bucket")
    ] == [{"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}]
    assert "# {" not in text_page.text, "the text format has exemplars"
    assert openmetrics_page.families["http_server_request_duration_seconds"].unit == "seconds"


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30), st.floats(allow_nan=False)), max_size=6))
def test_any_label_value_and_number_can_be_parsed(series: list[tuple[str, str, float]]) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    for method, scheme, value in series:
        family.number_series(method, scheme).set(value)
    for openmetrics in (False, True):
        page = render_page(metrics, openmetrics)
        parsed = {
            (sample.labels.get("http_request_method", ""), sample.labels.get("url_scheme", "")): sample.value
            for sample in page.samples("http_server_active_requests")
        }
        assert parsed == {labels: child.cells[0] for labels, child in family.children.items()}


def test_label_values_that_are_equal_after_cleaning_are_one_series() -> None:
    metrics = MetricRegistry(2000)
    for method in ("\udc80", "?", "\udcff", "\0"):
        metrics.family(ACTIVE_REQUESTS).number_series(method, "http").add(1)
    page = render_page(metrics, openmetrics=True)
    assert page.value("http_server_active_requests") == 4
    assert len(list(page.samples("http_server_active_requests"))) == 1


def test_every_metric_of_the_vocabulary_can_be_rendered() -> None:
    metrics = MetricRegistry(2000)
    for metric in METRICS:
        labels = metric.labels[:-1] if metric.instrument is Instrument.STATE else metric.labels
        metrics.family(metric).child(tuple("x" for _ in labels)).cells[0] += 1
    for openmetrics in (False, True):
        page = render_page(metrics, openmetrics)
        assert set(page.families) == {metric.family for metric in METRICS}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_page_equals_that_of_the_official_exporter(openmetrics: bool) -> None:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    provider = MeterProvider([reader], Resource({}), shutdown_on_exit=False)
    meter = provider.get_meter("connectsoft_obs")
    duration = meter.create_histogram(
        REQUEST_DURATION.name,
        "s",
        REQUEST_DURATION.help,
        explicit_bucket_boundaries_advisory=[float(bound) for bound in REQUEST_DURATION.buckets],
    )
    active = meter.create_up_down_counter(ACTIVE_REQUESTS.name, "{request}", ACTIVE_REQUESTS.help)
    records = meter.create_counter(LOG_RECORDS.name, "{record}", LOG_RECORDS.help)
    metrics = MetricRegistry(2000)
    for value in (0.004, 0.005, 0.3, 12.0):
        duration.record(value, {"http.request.method": "GET", "url.scheme": "http"})
        metrics.family(REQUEST_DURATION).histogram_series("GET", "http", "", "", "", "").observe(value)
    active.add(2, {"http.request.method": "GET", "url.scheme": 'a"b\\c\nd'})
    metrics.family(ACTIVE_REQUESTS).number_series("GET", 'a"b\\c\nd').add(2)
    records.add(7, {"connectsoft.log.severity": "info"})
    metrics.add(LOG_RECORDS, ("info",), 7)
    official = (openmetrics_exposition.generate_latest if openmetrics else generate_latest)(registry).decode()
    snapshots = {snapshot.metric.name: snapshot for snapshot in metrics.snapshots()}
    ordered = [snapshots[metric.name] for metric in (REQUEST_DURATION, ACTIVE_REQUESTS, LOG_RECORDS)]
    actual = "".join(Exposition(openmetrics).format_families(ordered, lambda: None)) + (
        "# EOF\n" if openmetrics else ""
    )
    assert _canonical(actual) == _canonical(official)
    provider.shutdown()


def _canonical(text: str) -> list[str]:
    """The lines with sorted labels and without a trailing `.0`; the formats allow both forms."""
    lines = []
    for line in text.splitlines():
        if line.startswith("#"):
            lines.append(line)
            continue
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        pairs = sorted(re.findall(r'(\w+="(?:[^"\\]|\\.)*")', labels))
        lines.append(f"{name}{{{','.join(pairs)}}} {value.removesuffix('.0')}")
    return sorted(lines)


# --- HTTP -------------------------------------------------------------------------------------------------------------
def test_page_is_compressed_if_the_scraper_accepts_gzip(shop: Telemetry) -> None:
    plain = request_page(shop)
    compressed = request_page(shop, accept_encoding=b"br;q=1.0, gzip;q=0.8")
    assert (b"content-encoding", b"gzip") in compressed.headers
    assert len(compressed.body) < len(plain.body) / 3
    assert b"http_server_request_duration_seconds_count" in gzip.decompress(compressed.body)
    assert all(name != b"content-encoding" for name, _ in plain.headers)
    assert not accepts_gzip("gzip;q=0, *;q=1")
    assert accepts_gzip("*")
    assert (b"vary", b"accept, accept-encoding") in compressed.headers


def test_name_parameter_selects_families_or_samples(shop: Telemetry) -> None:
    page = request_page(shop, b"name[]=connectsoft_log_records_total&name[]=http_server_request_duration_seconds_count")
    samples = [line for line in page.body.decode().splitlines() if not line.startswith("#")]
    names = [sample.partition("{")[0] for sample in samples]
    assert names == ["http_server_request_duration_seconds_count", *["connectsoft_log_records_total"] * 5]
    family = request_page(shop, b"name[]=http_server_request_duration_seconds", accept=b"application/openmetrics-text")
    restricted = parse_page(family.body.decode(), openmetrics=True)
    assert set(restricted.families) == {"http_server_request_duration_seconds"}
    assert len(list(restricted.samples("http_server_request_duration_seconds_bucket"))) == 15
    assert request_page(shop, b"name[]=nothing").body == b""
    assert request_page(shop, b"name%5B%5D=target_info").body.startswith(b"# HELP target_info")


def test_token_is_required_if_one_is_configured() -> None:
    telemetry = create_telemetry(metrics_token="correct-horse")
    for authorization in (b"", b"Bearer", b"Bearer wrong-horse", b"Basic Y29ycmVjdC1ob3JzZQ==", b"correct-horse"):
        response = request_page(telemetry, authorization=authorization)
        assert response.status == 401
        assert (b"www-authenticate", b"Bearer") in response.headers
        assert b"http_server" not in response.body
    assert request_page(telemetry, authorization=b"Bearer correct-horse").status == 200
    assert request_page(telemetry, authorization=b"bearer correct-horse", x_forwarded_for=b"1.2.3.4").status == 200
    telemetry.shutdown(0)


def test_forwarded_request_without_a_token_is_rejected(shop: Telemetry) -> None:
    assert request_page(shop, x_forwarded_for=b"1.2.3.4").status == 404
    assert request_page(shop).status == 200


def test_head_returns_the_headers_of_get_without_a_body() -> None:
    with uvicorn("shop:app") as service:
        service.wait_until_ready()
        get, head = (httpx.request(method, f"{service.url}/metrics") for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert int(head.headers["content-length"]) > 1000
        assert httpx.post(f"{service.url}/metrics").status_code == 404


# --- Outside the event loop -------------------------------------------------------------------------------------------
def test_service_responds_while_a_page_is_rendered() -> None:
    """A collector that hangs delays only the scrape that waits for it."""
    with uvicorn("hanging_collector:app") as service:
        service.wait_until_ready()
        is_done = threading.Event()
        pages: list[httpx.Response] = []

        def request_metrics() -> None:
            pages.append(httpx.get(f"{service.url}/metrics", timeout=30))
            is_done.set()

        scraper = threading.Thread(target=request_metrics)
        scraper.start()
        assert httpx.get(f"{service.url}/stuck").text == "stuck", "the collector does not hang"
        for _ in range(20):
            assert httpx.get(f"{service.url}/health/live", timeout=2).status_code == 200
        assert not is_done.is_set()
        httpx.get(f"{service.url}/release")
        scraper.join(10)
        assert pages[0].status_code == 200
        assert "hanging_collector_value" in pages[0].text


def test_failure_to_render_a_page_is_answered_with_500_and_counted(
    shop: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from connectsoft_obs.asgi.endpoint_responder import EndpointResponder

    def fail(*_: object) -> list[str]:
        raise RuntimeError("the page cannot be rendered")

    monkeypatch.setattr(Exposition, "format_families", fail)
    responder = EndpointResponder(shop)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "client": ("127.0.0.1", 1)}
    page = responder.find_page(scope)
    assert page is not None
    asyncio.run(responder.send(page, scope, send))
    assert sent[0]["status"] == 500
    [errors] = [snapshot for snapshot in shop.metrics.snapshots() if snapshot.metric.name == "connectsoft.obs.errors"]
    assert errors.series == {("endpoints.page",): 1}


def test_page_is_rendered_in_a_thread_under_trio(shop: Telemetry) -> None:
    import trio

    from connectsoft_obs.asgi.endpoint_responder import run_in_thread

    names: list[str] = []
    trio.run(run_in_thread, lambda: names.append(threading.current_thread().name))
    assert names
    assert names != [threading.main_thread().name]


def test_threshold_of_an_slo_is_a_bucket_boundary() -> None:
    metrics = MetricRegistry(2000, extra_buckets={REQUEST_DURATION.name: (0.3, 0.25)})
    metrics.family(REQUEST_DURATION).histogram_series("GET", "http", "200", "/a", "", "1.1").observe(0.28)
    page = render_page(metrics, openmetrics=True)
    assert page.value("http_server_request_duration_seconds_bucket", le="0.3") == 1
    assert page.value("http_server_request_duration_seconds_bucket", le="0.25") == 0
    assert len(list(page.samples("http_server_request_duration_seconds_bucket"))) == 16
