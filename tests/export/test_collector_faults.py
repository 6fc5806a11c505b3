"""The pipeline against a collector that misbehaves: kept, tried again, bounded, counted, and never waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from support.faulty_collector import FaultyCollector
from support.process import free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.export import backoff, chunks, otlp_request
from connectsoft_obs.export.chunks import Chunk
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.tracing import otlp_encoder
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import _Kept
from connectsoft_obs.vocabulary import DROPPED, EXPORTER_STATUS, Signal


@pytest.fixture
def collector() -> Iterator[FaultyCollector]:
    with FaultyCollector() as found:
        yield found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.05)


class Service:
    """A Telemetry that exports traces, and what it logs."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.seen = Captured()
        settings = load_settings(
            {}, service="faults", otlp_endpoint=endpoint, span_schedule_delay=0.02, otlp_timeout=options.pop("timeout", 0.5),
            metrics_exporter="none", **options,
        )  # fmt: skip
        self.telemetry = Telemetry(settings, output=_Kept(self.seen), exports=True)

    def spans(self, count: int, prefix: str = "span") -> None:
        for number in range(count):
            self.telemetry.tracing.tracer.start_span(f"{prefix}-{number}").end()

    def dropped(self) -> dict[str, float]:
        series = self.telemetry.metrics.family(DROPPED).children
        return {reason: child.cells[0] for (signal, reason), child in series.items() if signal == "traces"}

    @property
    def state(self) -> float:
        return self.telemetry.metrics.family(EXPORTER_STATUS).number(Signal.TRACES.value).cells[0]

    def lines(self) -> list[str]:
        return [line["message"] for line in self.seen.logs if "export" in line["message"]]


FAULTS = ["refuse", "hang", "garbage", "cut", "reset", "503", "502", "504", "429", "429:1", "503:garbage"]


@pytest.mark.parametrize("mode", FAULTS)
def test_what_was_queued_is_delivered_once_the_collector_is_back(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = Service(collector.url)
    service.spans(50)
    wait_for(lambda: service.state == 1, 5, "the breaker opens")
    collector.set_mode("ok")
    wait_for(lambda: len(collector.received.spans) >= 50, 10, "50 spans")
    wait_for(lambda: service.state == 0, 5, "the breaker closes")
    assert service.telemetry.shutdown(2)
    assert sorted(span.name for span in collector.received.spans) == sorted(f"span-{n}" for n in range(50))
    assert service.dropped() == {}
    assert service.lines() == [
        "export failed; retrying (telemetry is buffered)",
        "export recovered",
    ]


@pytest.mark.parametrize("mode", ["400", "401", "404", "500"])
def test_what_is_refused_for_good_is_dropped_counted_and_not_tried_again(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = Service(collector.url)
    service.spans(20)
    wait_for(lambda: service.dropped() == {f"http_{mode}": 20}, 5)
    attempts = collector.request_count
    collector.set_mode("ok")
    service.spans(5, "later")
    wait_for(lambda: len(collector.received.spans) == 5, 5)
    service.telemetry.shutdown(2)
    assert {span.name for span in collector.received.spans} == {f"later-{n}" for n in range(5)}
    assert attempts < 20


def test_too_large_a_request_is_halved_until_it_fits(collector: FaultyCollector) -> None:
    original = collector._respond

    def limited(connection: Any, path: str, body: bytes, headers: dict[str, str]) -> bool:
        collector.mode = "413" if len(body) > 3000 else "ok"
        return original(connection, path, body, headers)

    collector._respond = limited  # type: ignore[method-assign]
    service = Service(collector.url)
    service.spans(100)
    service.telemetry.shutdown(5)
    assert len(collector.received.spans) == 100
    assert len({span.name for span in collector.received.spans}) == 100
    assert service.dropped() == {}


def test_a_collector_that_starts_late_gets_everything() -> None:
    port = free_port()
    service = Service(f"http://127.0.0.1:{port}")
    service.spans(30)
    wait_for(lambda: service.state == 1, 5)
    with FaultyCollector(port=port) as late:
        wait_for(lambda: len(late.received.spans) == 30, 10)
        service.telemetry.shutdown(2)


def test_the_queue_is_bounded_and_the_overflow_is_counted(collector: FaultyCollector) -> None:
    collector.set_mode("hang")
    service = Service(collector.url, span_max_queue_size=100, span_max_export_batch_size=10, timeout=10.0)
    service.spans(500)
    kept = service.telemetry.export_processors()[0].pending
    assert kept <= 110, "the queue, and a batch that is being sent"
    assert service.dropped() == {"queue_full": 500 - kept}
    began = time.monotonic()
    assert not service.telemetry.shutdown(0.5)
    assert time.monotonic() - began < 1.5
    assert service.dropped() == {"queue_full": 500 - kept, "shutdown": kept}
    assert sum(service.dropped().values()) + len(collector.received.spans) == 500


@pytest.mark.parametrize("mode", [*FAULTS, "slow:10"])
def test_a_shutdown_ends_in_time_and_accounts_for_every_span(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = Service(collector.url, timeout=10.0)
    service.spans(40)
    began = time.monotonic()
    service.telemetry.shutdown(1.0)
    assert time.monotonic() - began < 2.0
    assert sum(service.dropped().values()) == 40
    service.spans(3, "after")
    assert sum(service.dropped().values()) == 43


def test_ending_a_span_never_waits_for_the_collector(collector: FaultyCollector) -> None:
    collector.set_mode("hang")
    service = Service(collector.url, timeout=10.0)
    service.spans(1)
    wait_for(lambda: collector.request_count, 5)
    began = time.perf_counter()
    service.spans(2000)
    assert time.perf_counter() - began < 1.0
    service.telemetry.shutdown(0.1)


def test_spans_of_a_megabyte_fill_the_queue_by_their_bytes(collector: FaultyCollector) -> None:
    collector.set_mode("503")
    service = Service(collector.url, timeout=5)
    [traces] = service.telemetry.export_processors()
    text = "x" * 1024 * 1024
    for number in range(200):
        with service.telemetry.tracing.tracer.start_as_current_span(f"prompt-{number}") as span:
            span.set_attribute("prompt", text)
    assert 60 <= traces.pending <= 66
    assert service.dropped() == {"queue_full": 200 - traces.pending}
    kept = traces.pending
    collector.set_mode("ok")
    wait_for(lambda: len(collector.received.spans) == kept, 30, "what was kept arrives")
    service.spans(50, "small")
    wait_for(lambda: len(collector.received.spans) == kept + 50, 10, "there is room again")
    assert service.telemetry.shutdown(5)


def test_at_full_load_requests_are_whole_batches(collector: FaultyCollector) -> None:
    service = Service(collector.url, timeout=10, span_max_queue_size=100_000)
    [traces] = service.telemetry.export_processors()
    traces._delay = 60.0  # nothing is sent because its time has come
    sizes: list[int] = []
    pack = traces._build_request

    def noted(chunks: Sequence[Chunk]) -> Any:
        sizes.append(sum(chunk.count for chunk in chunks))
        return pack(chunks)

    traces._build_request = noted
    for number in range(1, 41):  # in pieces that are no batch, each of which finds the thread at work or waiting
        service.spans(100)
        sent = number * 100 // 512 * 512
        wait_for(lambda sent=sent: len(collector.received.spans) >= sent - 32, 5)  # type: ignore[misc]
    assert set(sizes) == {512}
    assert service.telemetry.flush(5)
    assert len(collector.received.spans) == 4000
    assert service.telemetry.shutdown(5)


def test_a_span_that_cannot_be_encoded_costs_no_other(
    collector: FaultyCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = otlp_encoder.encode_span

    def broken(span: Any) -> bytes:
        if span.name == "span-3":
            raise RuntimeError("ours")
        return encoded(span)

    monkeypatch.setattr(otlp_encoder, "encode_span", broken)
    service = Service(collector.url)
    service.spans(40)
    wait_for(lambda: len(collector.received.spans) == 39, 5)
    assert service.dropped() == {"internal_error": 1}
    assert service.telemetry.shutdown(5)


def test_a_signal_while_spans_are_encoded_costs_none_of_them(
    collector: FaultyCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, interrupts = otlp_encoder.encode_span, [KeyboardInterrupt]

    def interrupted(span: Any) -> bytes:
        if interrupts and span.name == "span-3":
            raise interrupts.pop()
        return encoded(span)

    monkeypatch.setattr(otlp_encoder, "encode_span", interrupted)
    service = Service(collector.url)
    with pytest.raises(KeyboardInterrupt):
        service.spans(40)
    assert service.telemetry.flush(5)
    assert [span.name for span in collector.received.spans] == [f"span-{number}" for number in range(32)]
    assert service.dropped() == {}
    assert service.telemetry.shutdown(5)


def test_what_comes_after_the_end_is_counted_at_once(collector: FaultyCollector) -> None:
    service = Service(collector.url)
    service.spans(1)
    assert service.telemetry.shutdown(5)
    for number in range(1, 4):
        service.spans(1)
        assert service.dropped() == {"shutdown": number}


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_a_pile_in_two(items: list[bytes]) -> None:
    [chunk] = chunks.chunks_by_scope([("scope", otlp_request.item(item)) for item in items])
    waiting, found = [chunk], []
    while waiting:
        first, *rest = waiting.pop(0).halves()
        waiting = [first, *rest, *waiting] if rest else waiting
        found += [] if rest else [first]
    assert [each.content for each in found] == [otlp_request.item(item) for item in items]
    assert {each.count for each in found} == {1}


def test_one_line_a_change_of_state_however_long_it_lasts(collector: FaultyCollector) -> None:
    service = Service(collector.url)
    for mode, state in (("503", 1), ("ok", 0), ("refuse", 1), ("ok", 0)):
        collector.set_mode(mode)
        service.spans(3)
        wait_for(lambda state=state: service.state == state, 10, f"{mode}: {service.lines()}")  # type: ignore[misc]
        attempts = collector.request_count
        if mode == "503":
            wait_for(lambda attempts=attempts: collector.request_count > attempts + 2, 10)  # type: ignore[misc]
    service.telemetry.shutdown(2)
    assert len(service.lines()) == 4


def test_a_flush_says_whether_everything_went(collector: FaultyCollector) -> None:
    service = Service(collector.url)
    service.spans(10)
    assert service.telemetry.flush(5)
    assert len(collector.received.spans) == 10
    collector.set_mode("503")
    service.spans(10)
    began = time.monotonic()
    assert not service.telemetry.flush(1)
    assert time.monotonic() - began < 2
    service.telemetry.shutdown(0.2)


def test_tls_that_cannot_work_is_a_failure_like_any_other(collector: FaultyCollector) -> None:
    service = Service(collector.url.replace("http", "https"))
    service.spans(5)
    wait_for(lambda: service.state == 1 or service.dropped(), 5)
    service.telemetry.shutdown(0.3)
    assert sum(service.dropped().values()) == 5


def test_a_name_that_does_not_resolve_is_a_failure_like_any_other() -> None:
    service = Service("http://collector.invalid:4318")
    service.spans(5)
    wait_for(lambda: service.state == 1, 10)
    service.telemetry.shutdown(0.3)
    assert service.dropped() == {"shutdown": 5}


def test_a_forked_child_sends_its_own_and_nothing_of_its_parents(collector: FaultyCollector) -> None:
    service = Service(collector.url, traces_sampler="always_on")
    service.telemetry.settings  # noqa: B018
    collector.set_mode("503")
    service.spans(5, "parent")
    wait_for(lambda: service.state == 1, 5)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            service.spans(3, "child")
            ended = service.telemetry.shutdown(3)
            os.write(writer, b"1" if ended else b"0")
        finally:
            os._exit(0)
    os.close(writer)
    collector.set_mode("ok")
    assert os.read(reader, 1) == b"1"
    os.waitpid(child, 0)
    wait_for(lambda: len(collector.received.spans) >= 8, 10)
    service.telemetry.shutdown(2)
    assert sorted(span.name for span in collector.received.spans) == [
        "child-0", "child-1", "child-2", "parent-0", "parent-1", "parent-2", "parent-3", "parent-4",
    ]  # fmt: skip
    assert len({resource["service.instance.id"] for resource in collector.received.resources}) == 2
    assert len({resource["process.pid"] for resource in collector.received.resources}) == 2


def test_spans_of_many_threads_arrive_once(collector: FaultyCollector) -> None:
    service = Service(collector.url)
    threads = [threading.Thread(target=service.spans, args=(200, f"t{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.telemetry.shutdown(5)
    assert len({span.name for span in collector.received.spans}) == len(collector.received.spans) == 1600


def test_a_telemetry_that_was_never_used_starts_no_thread() -> None:
    before = set(threading.enumerate())
    telemetry = obs.Telemetry(load_settings({}, otlp_endpoint="http://127.0.0.1:9"), exports=True)
    assert set(threading.enumerate()) <= before
    assert trace.get_tracer_provider() is not telemetry.tracing.provider
