"""The metrics page: both formats, negotiated, restricted, compressed, guarded, and out of the event loop's way."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some
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


def telemetry(**settings: object) -> Telemetry:
    return Telemetry(load_settings({}, service="shop", **settings), environ={}, exports=False)


@pytest.fixture
def shop() -> Iterator[Telemetry]:
    made = telemetry()
    series = made.metrics.family(REQUEST_DURATION).histogram("GET", "http", "200", "/items/{id}", "", "1.1")
    series.exemplify(series.observe(0.02), 0.02, 0xABC, 0xDEF)
    made.metrics.add(LOG_RECORDS, ("info",), 3)
    yield made
    made.shutdown(0)


def asked(telemetry: Telemetry, query: bytes = b"", **headers: bytes) -> EndpointResponse:
    given_ = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return EndpointRouter(telemetry).pages["/metrics"](EndpointRequest("GET", query, given_, "127.0.0.1"))


def written(metrics: MetricRegistry, openmetrics: bool) -> MetricsPage:
    parts = Exposition(openmetrics).families(metrics.snapshots(), lambda: None)
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
def test_the_format_is_what_the_scraper_accepts(accept: str, openmetrics: bool) -> None:
    assert prefers_openmetrics(accept) is openmetrics


@given(some.text(max_size=200))
def test_no_header_breaks_the_negotiation(header: str) -> None:
    assert prefers_openmetrics(header) in (True, False)
    assert accepts_gzip(header) in (True, False)


def test_b09_both_formats_are_read_by_prometheus_own_parsers(shop: Telemetry) -> None:
    text = asked(shop)
    assert text.content_type == "text/plain; version=0.0.4; charset=utf-8"
    plain = parse_page(text.body.decode(), openmetrics=False)
    rich = asked(shop, accept=b"application/openmetrics-text")
    assert rich.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    full = parse_page(rich.body.decode(), openmetrics=True)
    for found in (plain, full):
        assert found.value("http_server_request_duration_seconds_count", http_route="/items/{id}") == 1
        assert found.value("connectsoft_log_records_total", connectsoft_log_severity="info") == 3
        assert found.value("target_info", service_name="shop") == 1
    assert [e.labels for e in full.exemplars("http_server_request_duration_seconds_bucket")] == [
        {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
    ]
    assert "# {" not in plain.text, "text has no exemplars"
    assert full.families["http_server_request_duration_seconds"].unit == "seconds"


@given(
    some.lists(some.tuples(some.text(max_size=30), some.text(max_size=30), some.floats(allow_nan=False)), max_size=6)
)
def test_b09_any_label_value_and_any_number_is_read_back(series: list[tuple[str, str, float]]) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    for method, scheme, value in series:
        family.number(method, scheme).set(value)
    for openmetrics in (False, True):
        found = written(metrics, openmetrics)
        back = {
            (sample.labels.get("http_request_method", ""), sample.labels.get("url_scheme", "")): sample.value
            for sample in found.samples("http_server_active_requests")
        }
        assert back == {labels: child.cells[0] for labels, child in family.children.items()}


def test_lone_surrogates_and_nul_do_not_reach_the_page_twice() -> None:
    metrics = MetricRegistry(2000)
    for method in ("\udc80", "?", "\udcff", "\0"):
        metrics.family(ACTIVE_REQUESTS).number(method, "http").add(1)
    found = written(metrics, openmetrics=True)
    assert found.value("http_server_active_requests") == 4
    assert len(list(found.samples("http_server_active_requests"))) == 1


def test_every_metric_of_the_vocabulary_can_be_written() -> None:
    metrics = MetricRegistry(2000)
    for metric in METRICS:
        labels = metric.labels[:-1] if metric.instrument is Instrument.STATE else metric.labels
        metrics.family(metric).child(tuple("x" for _ in labels)).cells[0] += 1
    for openmetrics in (False, True):
        found = written(metrics, openmetrics)
        assert set(found.families) == {metric.family for metric in METRICS}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_b02_a_page_is_line_by_line_that_of_the_official_exporter(openmetrics: bool) -> None:
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
        metrics.family(REQUEST_DURATION).histogram("GET", "http", "", "", "", "").observe(value)
    active.add(2, {"http.request.method": "GET", "url.scheme": 'a"b\\c\nd'})
    metrics.family(ACTIVE_REQUESTS).number("GET", 'a"b\\c\nd').add(2)
    records.add(7, {"connectsoft.log.severity": "info"})
    metrics.add(LOG_RECORDS, ("info",), 7)
    theirs = (openmetrics_exposition.generate_latest if openmetrics else generate_latest)(registry).decode()
    snapshots = {snapshot.metric.name: snapshot for snapshot in metrics.snapshots()}
    order = [snapshots[metric.name] for metric in (REQUEST_DURATION, ACTIVE_REQUESTS, LOG_RECORDS)]
    ours = "".join(Exposition(openmetrics).families(order, lambda: None)) + ("# EOF\n" if openmetrics else "")
    assert _canonical(ours) == _canonical(theirs)
    provider.shutdown()


def _canonical(text: str) -> list[str]:
    """Lines, with labels in one order and whole numbers written in one way; each is allowed, and theirs differ."""
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


# --- HTTP ------------------------------------------------------------------------------------------------------------
def test_a_page_is_compressed_for_who_accepts_it(shop: Telemetry) -> None:
    plain = asked(shop)
    packed = asked(shop, accept_encoding=b"br;q=1.0, gzip;q=0.8")
    assert (b"content-encoding", b"gzip") in packed.headers
    assert len(packed.body) < len(plain.body) / 3
    assert b"http_server_request_duration_seconds_count" in gzip.decompress(packed.body)
    assert all(name != b"content-encoding" for name, _ in plain.headers)
    assert not accepts_gzip("gzip;q=0, *;q=1")
    assert accepts_gzip("*")
    assert (b"vary", b"accept, accept-encoding") in packed.headers


def test_name_asks_for_some_families_or_samples_alone(shop: Telemetry) -> None:
    found = asked(shop, b"name[]=connectsoft_log_records_total&name[]=http_server_request_duration_seconds_count")
    samples = [line for line in found.body.decode().splitlines() if not line.startswith("#")]
    names = [sample.partition("{")[0] for sample in samples]
    assert names == ["http_server_request_duration_seconds_count", *["connectsoft_log_records_total"] * 5]
    family = asked(shop, b"name[]=http_server_request_duration_seconds", accept=b"application/openmetrics-text")
    restricted = parse_page(family.body.decode(), openmetrics=True)
    assert set(restricted.families) == {"http_server_request_duration_seconds"}
    assert len(list(restricted.samples("http_server_request_duration_seconds_bucket"))) == 15
    assert asked(shop, b"name[]=nothing").body == b""
    assert asked(shop, b"name%5B%5D=target_info").body.startswith(b"# HELP target_info")


def test_a_token_is_demanded_of_everybody_where_one_is_set() -> None:
    guarded = telemetry(metrics_token="correct-horse")
    for wrong in (b"", b"Bearer", b"Bearer wrong-horse", b"Basic Y29ycmVjdC1ob3JzZQ==", b"correct-horse"):
        refused = asked(guarded, authorization=wrong)
        assert refused.status == 401
        assert (b"www-authenticate", b"Bearer") in refused.headers
        assert b"http_server" not in refused.body
    assert asked(guarded, authorization=b"Bearer correct-horse").status == 200
    assert asked(guarded, authorization=b"bearer correct-horse", x_forwarded_for=b"1.2.3.4").status == 200
    guarded.shutdown(0)


def test_what_comes_through_a_proxy_sees_nothing_without_a_token(shop: Telemetry) -> None:
    assert asked(shop, x_forwarded_for=b"1.2.3.4").status == 404
    assert asked(shop).status == 200


def test_head_has_the_headers_of_get_and_no_body() -> None:
    with uvicorn("shop:app") as service:
        service.wait_until_ready()
        get, head = (httpx.request(method, f"{service.url}/metrics") for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert int(head.headers["content-length"]) > 1000
        assert httpx.post(f"{service.url}/metrics").status_code == 404


# --- Off the loop -----------------------------------------------------------------------------------------------------
def test_the_service_answers_while_a_page_is_being_written() -> None:
    """A collector that hangs holds up the scrape that waits for it, and nothing else."""
    with uvicorn("hanging_collector:app") as service:
        service.wait_until_ready()
        done = threading.Event()
        pages: list[httpx.Response] = []

        def ask() -> None:
            pages.append(httpx.get(f"{service.url}/metrics", timeout=30))
            done.set()

        scraper = threading.Thread(target=ask)
        scraper.start()
        assert httpx.get(f"{service.url}/stuck").text == "stuck", "the collector waits to be let go"
        for _ in range(20):
            assert httpx.get(f"{service.url}/health/live", timeout=2).status_code == 200
        assert not done.is_set()
        httpx.get(f"{service.url}/release")
        scraper.join(10)
        assert pages[0].status_code == 200
        assert "hanging_collector_value" in pages[0].text


def test_a_page_that_fails_is_a_500_and_counted(shop: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from connectsoft_obs.asgi.endpoint_responder import EndpointResponder

    def broken(*_: object) -> list[str]:
        raise RuntimeError("no page today")

    monkeypatch.setattr(Exposition, "families", broken)
    answers = EndpointResponder(shop)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "client": ("127.0.0.1", 1)}
    found = answers.find_page(scope)
    assert found is not None
    asyncio.run(answers.send(found, scope, send))
    assert sent[0]["status"] == 500
    [errors] = [s for s in shop.metrics.snapshots() if s.metric.name == "connectsoft.obs.errors"]
    assert errors.series == {("endpoints.page",): 1}


def test_a_page_is_written_in_a_thread_under_trio_too(shop: Telemetry) -> None:
    import trio

    from connectsoft_obs.asgi.endpoint_responder import run_in_thread

    names: list[str] = []
    trio.run(run_in_thread, lambda: names.append(threading.current_thread().name))
    assert names
    assert names != [threading.main_thread().name]


def test_a_threshold_that_an_objective_declares_is_a_bucket() -> None:
    metrics = MetricRegistry(2000, thresholds={REQUEST_DURATION.name: (0.3, 0.25)})
    metrics.family(REQUEST_DURATION).histogram("GET", "http", "200", "/a", "", "1.1").observe(0.28)
    found = written(metrics, openmetrics=True)
    assert found.value("http_server_request_duration_seconds_bucket", le="0.3") == 1
    assert found.value("http_server_request_duration_seconds_bucket", le="0.25") == 0
    assert len(list(found.samples("http_server_request_duration_seconds_bucket"))) == 16
