"""Counting of SLO events: in a service on a real server, and by outcome, status and threshold."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.process import Service, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.slo import uncounted_slos
from connectsoft_obs.slo.event_counter import EventCounter
from connectsoft_obs.slo.indicators import Events
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import JOB_DURATION, PROCESS_DURATION, REQUEST_DURATION, Outcome


def event_counts(url: str) -> dict[tuple[str, str], float]:
    """Read the SLO event counters of a service by SLO name and outcome."""
    counts = {}
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("connectsoft_slo_events_total{"):
            labels, value = line.rsplit(" ", 1)
            name = labels.split('slo_name="')[1].split('"')[0]
            outcome = labels.split('slo_outcome="')[1].split('"')[0]
            counts[name, outcome] = float(value)
    return counts


@pytest.fixture(scope="module")
def shop() -> Iterator[Service]:
    with uvicorn("slo_service:app") as service:
        service.wait_until_ready()
        yield service


def test_every_series_exists_at_zero_before_the_first_event(shop: Service) -> None:
    names = {"buying", "quick", "restock", "open"}
    zero = {(name, outcome): 0.0 for name in names for outcome in ("good", "bad")}
    assert event_counts(shop.url) == zero


def test_a_threshold_becomes_a_bucket_boundary(shop: Service) -> None:
    httpx.get(f"{shop.url}/buy")
    page = httpx.get(f"{shop.url}/metrics").text
    assert 'http_route="/buy"' in page
    assert 'le="0.3"' in page


def test_events_are_counted_by_outcome_threshold_and_route(shop: Service) -> None:
    before = event_counts(shop.url)
    for _ in range(3):
        assert httpx.get(f"{shop.url}/buy").status_code == 200
    httpx.get(f"{shop.url}/faults?seconds=0.35")
    assert httpx.get(f"{shop.url}/buy").status_code == 200
    httpx.get(f"{shop.url}/faults?fail=1")
    assert httpx.get(f"{shop.url}/buy").status_code == 500
    httpx.get(f"{shop.url}/faults")
    httpx.get(f"{shop.url}/nowhere")
    httpx.get(f"{shop.url}/events")
    after = event_counts(shop.url)
    increases = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    # Five requests of /buy: one failed, one slow. The latency SLO ignores the failed one. The outage limit counts all
    # requests except event streams: five of /buy, three of /faults, one of an unknown path.
    assert increases == {
        ("buying", "good"): 4,
        ("buying", "bad"): 1,
        ("quick", "good"): 3,
        ("quick", "bad"): 1,
        ("open", "good"): 8,
        ("open", "bad"): 1,
    }


def test_runs_of_jobs_are_counted(shop: Service) -> None:
    before = event_counts(shop.url)
    httpx.get(f"{shop.url}/restock")
    httpx.get(f"{shop.url}/restock?fail=1")
    after = event_counts(shop.url)
    assert after["restock", "good"] - before["restock", "good"] == 2
    assert after["restock", "bad"] - before["restock", "bad"] == 1


def test_a_request_with_a_client_disconnect_is_not_counted(shop: Service) -> None:
    httpx.get(f"{shop.url}/faults?seconds=0.5")
    before = event_counts(shop.url)
    with socket.create_connection(("127.0.0.1", shop.port)) as client:
        client.sendall(b"GET /buy HTTP/1.1\r\nHost: x\r\n\r\n")
        threading.Event().wait(0.1)
    wait_for(lambda: 'error_type="client_disconnect"' in httpx.get(f"{shop.url}/metrics").text, 10)
    httpx.get(f"{shop.url}/faults")
    after = event_counts(shop.url)
    assert (after["buying", "good"], after["buying", "bad"]) == (before["buying", "good"], before["buying", "bad"])


def test_slo_file_from_the_environment_declares_slos(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(
        '[service]\nname = "orders-api"\n[[slo]]\nname = "a"\nobjective = 99\nsli = { kind = "http_availability" }\n'
    )
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_SLO_FILE": str(file)}) as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/items/1")
        assert event_counts(service.url) == {("a", "good"): 1, ("a", "bad"): 0}


def test_an_invalid_slo_file_prevents_the_start(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(
        '[service]\nname = "orders-api"\n[[slo]]\nname = "a"\nobjective = 100\nsli = { kind = "http_availability" }\n'
    )
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_SLO_FILE": str(file)}) as service:
        assert service.process.wait(15) != 0
        wait_for(lambda: "objective = 100 in [[slo]] 'a'" in service.output)


@pytest.mark.parametrize("objectives", [["nonsense"], 7, [slo.Alerting()]])
def test_objectives_of_another_type_are_rejected_at_startup(objectives: object) -> None:
    with pytest.raises(obs.ConfigurationError, match="not an SLO"), capture(objectives=objectives):
        pass


def test_bind_returns_none_for_events_that_no_slo_counts() -> None:
    with capture(objectives=[slo.availability("a", 99, routes=["/x"])]) as captured:
        assert captured.telemetry is not None
        assert captured.telemetry.slo_events is not None
        bind = captured.telemetry.slo_events.bind
        assert bind(REQUEST_DURATION, {"http.route": "/y"}, Outcome.SUCCESS) is None
        assert bind(REQUEST_DURATION, {"http.route": "/x"}, Outcome.ABORTED) is None
        assert bind(JOB_DURATION, {"http.route": "/x"}, Outcome.SUCCESS) is None
        assert bind(REQUEST_DURATION, {"http.route": "/x"}, Outcome.SUCCESS) is not None


class FakeCounter:
    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount


@pytest.mark.parametrize(
    ("outcome", "status", "seconds", "good", "bad"),
    [
        (Outcome.SUCCESS, "200", 5.0, 1, 0),  # a duration equal to the threshold is good, as in a histogram bucket
        (Outcome.SUCCESS, "200", 5.0001, 0, 1),
        (Outcome.REJECTED, "404", 0.1, 1, 0),
        (Outcome.REJECTED, "429", 0.1, 0, 1),
        (Outcome.FAILURE, "500", 0.1, 0, 1),
        (Outcome.TIMEOUT, "504", 0.1, 0, 1),
        (Outcome.ABORTED, "", 0.1, 0, 0),
    ],
)
def test_outcome_status_and_threshold_determine_good_and_bad(
    outcome: Outcome, status: str, seconds: float, good: int, bad: int
) -> None:
    counters: dict[tuple[str, str], FakeCounter] = {}
    objective = slo.SLO(name="a", objective=99, sli=Events(threshold=5, bad_status=("429",)))
    event_counter = EventCounter([objective], lambda name, outcome: counters.setdefault((name, outcome), FakeCounter()))
    count = event_counter.bind(REQUEST_DURATION, {"http.response.status_code": status}, outcome)
    if count is not None:
        count(seconds)
    assert (counters["a", "good"].value, counters["a", "bad"].value) == (good, bad)


def test_messages_are_counted_by_destination_and_threshold() -> None:
    counters: dict[tuple[str, str], FakeCounter] = {}
    objective = slo.message_success_rate("ingest", 99, within="5s", destination="audit")
    event_counter = EventCounter([objective], lambda name, outcome: counters.setdefault((name, outcome), FakeCounter()))
    for destination, outcome, seconds in (
        ("audit", Outcome.SUCCESS, 1),
        ("audit", Outcome.SUCCESS, 6),
        ("audit", Outcome.FAILURE, 1),
        ("other", Outcome.FAILURE, 1),
    ):
        count = event_counter.bind(PROCESS_DURATION, {"messaging.destination.name": destination}, outcome)
        if count is not None:
            count(seconds)
    assert (counters["ingest", "good"].value, counters["ingest", "bad"].value) == (1, 2)


def test_an_slo_on_an_uncounted_histogram_is_rejected_at_startup() -> None:
    objective = slo.message_success_rate("wait", 99, within="5s", instrument="connectsoft.message.wait.duration")
    with pytest.raises(obs.ConfigurationError, match="does not count its events"), capture(objectives=[objective]):
        pass


UNCOUNTED = (
    slo.availability("buying", 99.9, routes=["/buy"]),
    slo.availability("misspelled", 99.9, routes=["/bye"]),
    slo.job_success_rate("another-process", 95, job="nightly"),
)


def test_an_slo_that_never_counts_an_event_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncounted_slos, "WARNING_DELAY", 0.0)
    app = Starlette(routes=[Route("/buy", lambda _: PlainTextResponse("ok"))])
    app.add_middleware(obs.ObservabilityMiddleware, service="shop", objectives=UNCOUNTED)
    with capture() as captured, TestClient(app) as client:
        client.get("/buy")
        for _ in range(2):
            client.get("/metrics")
        lines = [line for line in captured.logs if line["message"] == "an SLO has never counted an event"]
    assert [line["connectsoft.slo.name"] for line in lines] == ["misspelled"]
    assert lines[0]["severity"] == "WARN"
    assert lines[0]["connectsoft.obs.counts"] == {"http.route": ["/bye"]}


def test_an_idle_process_reports_no_slo_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncounted_slos, "WARNING_DELAY", 0.0)
    with capture(service="shop", objectives=UNCOUNTED) as captured:
        assert captured.metric("connectsoft.slo.events", connectsoft_slo_name="buying") is not None
        assert not any("never counted" in line["message"] for line in captured.logs)
