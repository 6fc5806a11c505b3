"""Pauses between attempts, requests that are too large, partial success, and exporter states of several destinations."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from export.test_export_refusals import RefusedService
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.faulty_collector import FaultyCollector
from support.otlp import partial_success_response
from support.process import wait_for

from connectsoft_obs.export import backoff
from connectsoft_obs.export.failures import refusal
from connectsoft_obs.export.http import partial_success
from connectsoft_obs.vocabulary import EXPORTER_STATUS, ExporterState, Signal


class GrpcCollector:
    """An OTLP/gRPC receiver that rejects requests above a size, or the first request with a delay to retry after."""

    def __init__(self, max_bytes: int = 2**31, retry_seconds: int = 0) -> None:
        self.names: list[str] = []
        self.request_count = 0

        def export(body: bytes, context: Any) -> bytes:
            self.request_count += 1
            if len(body) > max_bytes:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max")
            if self.request_count == 1 and retry_seconds:
                status = Status(code=8)
                status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=retry_seconds)))
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.names += [span.name for scope in resource.scope_spans for span in scope.spans]
            return b""

        class Handler(grpc.GenericRpcHandler):
            def service(self, _: Any) -> Any:
                return grpc.unary_unary_rpc_method_handler(export)

        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((Handler(),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def __enter__(self) -> GrpcCollector:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The computed pauses of exporters, which wait 10 ms instead."""
    computed: list[float] = []
    next_pause = backoff.Backoff.next_pause

    def record_pause(self: backoff.Backoff, retry_after: float | None) -> float:
        computed.append(next_pause(self, retry_after))
        return 0.01

    monkeypatch.setattr(backoff.Backoff, "next_pause", record_pause)
    return computed


def test_pauses_grow_with_jitter_up_to_the_limit() -> None:
    pauses = backoff.Backoff()
    values = [pauses.next_pause(None) for _ in range(40)]
    for number, value in enumerate(values):
        limit = min(0.5 * 2**number, 30)
        assert limit / 2 <= value <= limit
    assert len(set(values[10:])) > 20, "services must not retry at the same time"


@pytest.mark.parametrize("mode", ["503", "401"])
def test_pauses_start_again_after_an_accepted_export(mode: str, pauses: list[float]) -> None:
    with FaultyCollector(mode) as collector:
        service = RefusedService(collector.url)
        while len(pauses) < 4:
            service.create_span()
            threading.Event().wait(0.02)
        collector.set_mode("ok")
        service.create_span()
        wait_for(lambda: collector.received.spans, 5)
        assert service.telemetry.flush(5)
        del pauses[:]
        collector.set_mode(mode)
        service.create_span()
        wait_for(lambda: pauses, 5)
        assert pauses[0] <= backoff.FIRST_PAUSE
        service.telemetry.shutdown(0.1)


def test_item_that_is_too_large_does_not_delay_the_next(pauses: list[float]) -> None:
    with FaultyCollector("413") as collector:
        service = RefusedService(collector.url, span_max_export_batch_size=1)
        for _ in range(8):
            service.create_span()
        wait_for(lambda: service.dropped() == {"http_413": 8}, 5)
        assert pauses == []
        service.telemetry.shutdown(1)


def test_grpc_request_that_is_too_large_is_split_down_to_the_item() -> None:
    with GrpcCollector(max_bytes=3000) as collector:
        service = RefusedService(collector.url, otlp_protocol="grpc", span_schedule_delay=5.0)
        tracer = service.telemetry.tracing.tracer
        tracer.start_span("small").end()
        tracer.start_span("large", attributes={"text": "x" * 5000}).end()
        service.telemetry.flush(5)
        assert collector.names == ["small"]
        assert service.dropped() == {"grpc_resource_exhausted": 1}
        service.telemetry.shutdown(1)


def test_grpc_retry_info_delays_the_next_attempt(pauses: list[float]) -> None:
    with GrpcCollector(retry_seconds=7) as collector:
        service = RefusedService(collector.url, otlp_protocol="grpc")
        service.create_span()
        wait_for(lambda: collector.names == ["span"], 5)
        assert pauses == [7]
        assert service.dropped() == {}
        service.telemetry.shutdown(1)


@pytest.mark.parametrize("signal", list(Signal))
def test_partial_success_is_read_for_each_signal(signal: Signal) -> None:
    body = partial_success_response(f"/v1/{signal.value}", 3)
    rejected, message = partial_success(signal, body)
    assert rejected == 3
    assert "quota" in message
    assert partial_success(signal, b"\xff\xff") == (0, "")


def test_attempt_at_shutdown_ends_with_the_shutdown() -> None:
    with FaultyCollector("hang") as collector:
        service = RefusedService(collector.url, span_schedule_delay=60.0)
        service.create_span()
        thread = service.telemetry.export_processors()[0]._thread
        service.telemetry.shutdown(0.5)
        assert collector.request_count == 1
        assert thread is not None
        thread.join(1.2)
        assert not thread.is_alive(), "the timeout of an attempt is 2 s"


@pytest.mark.parametrize("refused", [0, 1])
def test_state_metric_shows_the_worst_exporter_of_a_signal(refused: int) -> None:
    service = RefusedService("http://127.0.0.1:9")
    exporters = service.telemetry.exporters
    assert exporters is not None
    status = exporters.statuses[0]
    exporters.statuses.append(type(status)(status.destination, service.telemetry.log, exporters._update_state_metric))
    cells = service.telemetry.metrics.family(EXPORTER_STATUS).number_series("traces").cells
    exporters.statuses[refused].record_result(refusal("http_401"))
    assert cells[0] == list(ExporterState).index(ExporterState.REFUSED)
    service.telemetry.shutdown(0.1)


def test_forked_child_does_not_inherit_the_refused_state() -> None:
    with FaultyCollector("401") as collector:
        service = RefusedService(collector.url)
        service.create_span()
        wait_for(service.refusals, 5)
        exporters = service.telemetry.exporters
        assert exporters is not None
        status = exporters.statuses[0]
        assert status.problem()
        child = os.fork()
        if child == 0:
            os._exit(7 if status.problem() or status.state is not ExporterState.CLOSED else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        service.telemetry.shutdown(1)
