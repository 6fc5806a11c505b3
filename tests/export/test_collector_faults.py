"""Trace export to a failing collector: buffering, retries, bounded queues, drop counters, and no blocking of requests."""

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
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter
from connectsoft_obs.vocabulary import DROPPED, EXPORTER_STATUS, Signal


@pytest.fixture
def collector() -> Iterator[FaultyCollector]:
    with FaultyCollector() as server:
        yield server


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE", 0.05)


class ExportingTelemetry:
    """A Telemetry that exports traces and captures its log lines."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.captured = Captured()
        settings = load_settings(
            {}, service="faults", otlp_endpoint=endpoint, span_schedule_delay=0.02, otlp_timeout=options.pop("timeout", 0.5),
            metrics_exporter="none", **options,
        )  # fmt: skip
        self.telemetry = Telemetry(settings, output=CapturingLogWriter(self.captured), exports=True)

    def create_spans(self, count: int, prefix: str = "span") -> None:
        for number in range(count):
            self.telemetry.tracing.tracer.start_span(f"{prefix}-{number}").end()

    def dropped(self) -> dict[str, float]:
        series = self.telemetry.metrics.family(DROPPED).children
        return {reason: child.cells[0] for (signal, reason), child in series.items() if signal == "traces"}

    @property
    def exporter_state(self) -> float:
        return self.telemetry.metrics.family(EXPORTER_STATUS).number_series(Signal.TRACES.value).cells[0]

    def export_messages(self) -> list[str]:
        return [line["message"] for line in self.captured.logs if "export" in line["message"]]


FAULTS = ["refuse", "hang", "garbage", "cut", "reset", "503", "502", "504", "429", "429:1", "503:garbage"]


@pytest.mark.parametrize("mode", FAULTS)
def test_queued_spans_are_delivered_after_recovery(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = ExportingTelemetry(collector.url)
    service.create_spans(50)
    wait_for(lambda: service.exporter_state == 1, 5, "the breaker opens")
    collector.set_mode("ok")
    wait_for(lambda: len(collector.received.spans) >= 50, 10, "50 spans")
    wait_for(lambda: service.exporter_state == 0, 5, "the breaker closes")
    assert service.telemetry.shutdown(2)
    assert sorted(span.name for span in collector.received.spans) == sorted(f"span-{n}" for n in range(50))
    assert service.dropped() == {}
    assert service.export_messages() == [
        "export failed; retrying (telemetry is buffered)",
        "export recovered",
    ]


@pytest.mark.parametrize("mode", ["400", "401", "404", "500"])
def test_permanent_failures_are_dropped_and_counted_without_retry(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = ExportingTelemetry(collector.url)
    service.create_spans(20)
    wait_for(lambda: service.dropped() == {f"http_{mode}": 20}, 5)
    attempts = collector.request_count
    collector.set_mode("ok")
    service.create_spans(5, "later")
    wait_for(lambda: len(collector.received.spans) == 5, 5)
    service.telemetry.shutdown(2)
    assert {span.name for span in collector.received.spans} == {f"later-{n}" for n in range(5)}
    assert attempts < 20


def test_request_that_is_too_large_is_split(collector: FaultyCollector) -> None:
    original = collector._respond

    def respond_with_size_limit(connection: Any, path: str, body: bytes, headers: dict[str, str]) -> bool:
        collector.mode = "413" if len(body) > 3000 else "ok"
        return original(connection, path, body, headers)

    collector._respond = respond_with_size_limit  # type: ignore[method-assign]
    service = ExportingTelemetry(collector.url)
    service.create_spans(100)
    service.telemetry.shutdown(5)
    assert len(collector.received.spans) == 100
    assert len({span.name for span in collector.received.spans}) == 100
    assert service.dropped() == {}


def test_collector_that_starts_late_receives_all_spans() -> None:
    port = free_port()
    service = ExportingTelemetry(f"http://127.0.0.1:{port}")
    service.create_spans(30)
    wait_for(lambda: service.exporter_state == 1, 5)
    with FaultyCollector(port=port) as collector:
        wait_for(lambda: len(collector.received.spans) == 30, 10)
        service.telemetry.shutdown(2)


def test_queue_is_bounded_and_the_overflow_is_counted(collector: FaultyCollector) -> None:
    collector.set_mode("hang")
    service = ExportingTelemetry(collector.url, span_max_queue_size=100, span_max_export_batch_size=10, timeout=10.0)
    service.create_spans(500)
    pending = service.telemetry.export_processors()[0].pending
    assert pending <= 110, "the queue and the batch that is being sent"
    assert service.dropped() == {"queue_full": 500 - pending}
    start = time.monotonic()
    assert not service.telemetry.shutdown(0.5)
    assert time.monotonic() - start < 1.5
    assert service.dropped() == {"queue_full": 500 - pending, "shutdown": pending}
    assert sum(service.dropped().values()) + len(collector.received.spans) == 500


@pytest.mark.parametrize("mode", [*FAULTS, "slow:10"])
def test_shutdown_meets_its_timeout_and_counts_every_span(collector: FaultyCollector, mode: str) -> None:
    collector.set_mode(mode)
    service = ExportingTelemetry(collector.url, timeout=10.0)
    service.create_spans(40)
    start = time.monotonic()
    service.telemetry.shutdown(1.0)
    assert time.monotonic() - start < 2.0
    assert sum(service.dropped().values()) == 40
    service.create_spans(3, "after")
    assert sum(service.dropped().values()) == 43


def test_ending_a_span_does_not_wait_for_the_collector(collector: FaultyCollector) -> None:
    collector.set_mode("hang")
    service = ExportingTelemetry(collector.url, timeout=10.0)
    service.create_spans(1)
    wait_for(lambda: collector.request_count, 5)
    start = time.perf_counter()
    service.create_spans(2000)
    assert time.perf_counter() - start < 1.0
    service.telemetry.shutdown(0.1)


def test_queue_is_limited_by_bytes_for_large_spans(collector: FaultyCollector) -> None:
    collector.set_mode("503")
    service = ExportingTelemetry(collector.url, timeout=5)
    [traces] = service.telemetry.export_processors()
    text = "x" * 1024 * 1024
    for number in range(200):
        with service.telemetry.tracing.tracer.start_as_current_span(f"prompt-{number}") as span:
            span.set_attribute("prompt", text)
    assert 60 <= traces.pending <= 66
    assert service.dropped() == {"queue_full": 200 - traces.pending}
    pending = traces.pending
    collector.set_mode("ok")
    wait_for(lambda: len(collector.received.spans) == pending, 30, "the queued spans are exported")
    service.create_spans(50, "small")
    wait_for(lambda: len(collector.received.spans) == pending + 50, 10, "new spans are queued and exported")
    assert service.telemetry.shutdown(5)


def test_requests_contain_full_batches_at_full_load(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url, timeout=10, span_max_queue_size=100_000)
    [traces] = service.telemetry.export_processors()
    traces._delay = 60.0  # no export is started by the schedule delay
    sizes: list[int] = []
    build_request = traces._build_request

    def record_size(chunks: Sequence[Chunk]) -> Any:
        sizes.append(sum(chunk.count for chunk in chunks))
        return build_request(chunks)

    traces._build_request = record_size
    for number in range(1, 41):  # parts smaller than a batch; the export thread may be busy or idle
        service.create_spans(100)
        sent = number * 100 // 512 * 512
        wait_for(lambda sent=sent: len(collector.received.spans) >= sent - 32, 5)  # type: ignore[misc]
    assert set(sizes) == {512}
    assert service.telemetry.flush(5)
    assert len(collector.received.spans) == 4000
    assert service.telemetry.shutdown(5)


def test_span_that_cannot_be_encoded_does_not_affect_others(
    collector: FaultyCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_span = otlp_encoder.encode_span

    def encode_with_failure(span: Any, redactor: Any) -> bytes:
        if span.name == "span-3":
            raise RuntimeError("simulated failure")
        return encode_span(span, redactor)

    monkeypatch.setattr(otlp_encoder, "encode_span", encode_with_failure)
    service = ExportingTelemetry(collector.url)
    service.create_spans(40)
    wait_for(lambda: len(collector.received.spans) == 39, 5)
    assert service.dropped() == {"internal_error": 1}
    assert service.telemetry.shutdown(5)


def test_signal_during_encoding_loses_no_encoded_spans(
    collector: FaultyCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_span, interrupts = otlp_encoder.encode_span, [KeyboardInterrupt]

    def encode_with_interrupt(span: Any, redactor: Any) -> bytes:
        if interrupts and span.name == "span-3":
            raise interrupts.pop()
        return encode_span(span, redactor)

    monkeypatch.setattr(otlp_encoder, "encode_span", encode_with_interrupt)
    service = ExportingTelemetry(collector.url)
    with pytest.raises(KeyboardInterrupt):
        service.create_spans(40)
    assert service.telemetry.flush(5)
    assert [span.name for span in collector.received.spans] == [f"span-{number}" for number in range(32)]
    assert service.dropped() == {}
    assert service.telemetry.shutdown(5)


def test_spans_after_shutdown_are_counted_immediately(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url)
    service.create_spans(1)
    assert service.telemetry.shutdown(5)
    for number in range(1, 4):
        service.create_spans(1)
        assert service.dropped() == {"shutdown": number}


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_chunks_split_into_halves_down_to_single_items(items: list[bytes]) -> None:
    [chunk] = chunks.chunks_by_scope([("scope", otlp_request.item(item)) for item in items])
    unsplit, single_items = [chunk], []
    while unsplit:
        first, *second = unsplit.pop(0).split()
        unsplit = [first, *second, *unsplit] if second else unsplit
        single_items += [] if second else [first]
    assert [single.content for single in single_items] == [otlp_request.item(item) for item in items]
    assert {single.count for single in single_items} == {1}


def test_each_change_of_the_exporter_state_logs_one_line(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url)
    for mode, state in (("503", 1), ("ok", 0), ("refuse", 1), ("ok", 0)):
        collector.set_mode(mode)
        service.create_spans(3)
        wait_for(lambda state=state: service.exporter_state == state, 10, f"{mode}: {service.export_messages()}")  # type: ignore[misc]
        attempts = collector.request_count
        if mode == "503":
            wait_for(lambda attempts=attempts: collector.request_count > attempts + 2, 10)  # type: ignore[misc]
    service.telemetry.shutdown(2)
    assert len(service.export_messages()) == 4


def test_flush_returns_whether_all_spans_were_exported(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url)
    service.create_spans(10)
    assert service.telemetry.flush(5)
    assert len(collector.received.spans) == 10
    collector.set_mode("503")
    service.create_spans(10)
    start = time.monotonic()
    assert not service.telemetry.flush(1)
    assert time.monotonic() - start < 2
    service.telemetry.shutdown(0.2)


def test_tls_error_counts_as_export_failure(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url.replace("http", "https"))
    service.create_spans(5)
    wait_for(lambda: service.exporter_state == 1 or service.dropped(), 5)
    service.telemetry.shutdown(0.3)
    assert sum(service.dropped().values()) == 5


def test_unresolvable_host_name_counts_as_export_failure() -> None:
    service = ExportingTelemetry("http://collector.invalid:4318")
    service.create_spans(5)
    wait_for(lambda: service.exporter_state == 1, 10)
    service.telemetry.shutdown(0.3)
    assert service.dropped() == {"shutdown": 5}


def test_forked_child_exports_only_its_own_spans(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url, traces_sampler="always_on")
    service.telemetry.settings  # noqa: B018
    collector.set_mode("503")
    service.create_spans(5, "parent")
    wait_for(lambda: service.exporter_state == 1, 5)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            service.create_spans(3, "child")
            is_flushed = service.telemetry.shutdown(3)
            os.write(writer, b"1" if is_flushed else b"0")
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


def test_spans_of_many_threads_are_exported_once(collector: FaultyCollector) -> None:
    service = ExportingTelemetry(collector.url)
    threads = [threading.Thread(target=service.create_spans, args=(200, f"t{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.telemetry.shutdown(5)
    assert len({span.name for span in collector.received.spans}) == len(collector.received.spans) == 1600


def test_unused_telemetry_starts_no_thread() -> None:
    before = set(threading.enumerate())
    telemetry = obs.Telemetry(load_settings({}, otlp_endpoint="http://127.0.0.1:9"), exports=True)
    assert set(threading.enumerate()) <= before
    assert trace.get_tracer_provider() is not telemetry.tracing.provider
