"""A refused exporter: repeated log lines, redirects, gRPC status codes, rate of attempts, readiness and partial success."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from export.test_export_refusals import RefusedService
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.faulty_collector import FaultyCollector
from support.process import wait_for
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.telemetry import exporter_status
from connectsoft_obs.vocabulary import EXPORTER_STATUS


@contextmanager
def grpc_server(code: grpc.StatusCode) -> Iterator[str]:
    """A gRPC server that responds to every call with a status code; yields its URL."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(code, "simulated"))

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "token"),
        (grpc.StatusCode.PERMISSION_DENIED, "token"),
        (grpc.StatusCode.UNIMPLEMENTED, "4318"),
        (grpc.StatusCode.INVALID_ARGUMENT, "simulated"),
    ],
)
def test_refusal_by_grpc_status_is_reported(code: grpc.StatusCode, text: str) -> None:
    with grpc_server(code) as url:
        RefusedService(url, otlp_protocol="grpc").assert_refused(f"grpc_{code.name.lower()}", text)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed_with_credentials(status: int) -> None:
    with FaultyCollector() as target, FaultyCollector() as collector:
        collector.set_mode(f"{status}@{target.url.replace('://', '://user:hidden@')}/v1/traces?token=hidden")
        service = RefusedService(collector.url, otlp_headers={"authorization": "Bearer hidden"})
        service.assert_refused(f"http_{status}", "redirect")
        assert service.refusals()[0]["connectsoft.obs.detail"] == f"{target.url}/v1/traces"
        assert "hidden" not in str(service.captured.logs)
        assert (collector.request_count, target.request_count) == (3, 0)


def test_refusal_is_logged_again_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=5.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(exporter_status, "time", clock)
    with FaultyCollector("403") as collector:
        service = RefusedService(collector.url)

        def refusals_at(seconds: float) -> int:
            clock.now = 5 + seconds
            service.create_span()
            service.telemetry.flush(5)
            return len(service.refusals())

        assert [refusals_at(seconds) for seconds in (0, 1, 3599, 3600, 3601, 7199, 7200)] == [1, 1, 1, 2, 2, 2, 3]
        collector.set_mode("404")
        assert [refusals_at(seconds) for seconds in (7201, 7202)] == [4, 4], "another reason is logged at once"
        collector.set_mode("ok")
        refusals_at(7203)
        collector.set_mode("404")
        assert [refusals_at(seconds) for seconds in (7204, 7260, 7261, 7262)] == [4, 4, 5, 5], (
            "a refusal that returns is logged after a minute"
        )
        service.telemetry.shutdown(1)


def test_refused_exporter_pauses_between_batches() -> None:
    with FaultyCollector("401") as collector:
        service = RefusedService(collector.url, span_max_export_batch_size=1)
        until, created = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            service.create_span()
            created += 1
            time.sleep(0.002)
        assert 1 <= collector.request_count <= 4, "one attempt, then after 0.25, 0.5 and 1 s at the earliest"
        waiting = service.telemetry.export_processors()[0].pending
        assert service.dropped() == {"http_401": created - waiting}
        started = time.monotonic()
        assert service.telemetry.flush(20), "a flush ends the pause"
        assert collector.request_count == created
        service.create_span()
        service.telemetry.shutdown(20)
        assert time.monotonic() - started < 15
        assert service.dropped() == {"http_401": created + 1}


def test_shutdown_ends_the_pause_after_a_refusal() -> None:
    with FaultyCollector("401") as collector:
        service = RefusedService(collector.url, span_max_export_batch_size=1)
        for number in range(1, 6):
            service.create_span()
            wait_for(lambda number=number: sum(service.dropped().values()) == number, 20)  # type: ignore[misc]
        service.create_span()
        started = time.monotonic()
        service.telemetry.shutdown(10)
        assert time.monotonic() - started < 2, "the pause after five refusals is at least 4 s"
        assert service.dropped() == {"http_401": 6}


def test_readiness_does_not_depend_on_refused_exports() -> None:
    with FaultyCollector("401") as collector:
        service = RefusedService(collector.url, details_token="detail-token")
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, telemetry=service.telemetry)
        with TestClient(app) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200, 5)
            service.create_span()
            wait_for(service.refusals, 5)
            assert client.get("/health/ready").json()["status"] == "Healthy"
            response = client.get("/health", headers={"authorization": "Bearer detail-token"})
            assert (response.status_code, response.json()["status"]) == (200, "Degraded")
            entry = response.json()["entries"]["export-traces"]
            assert "http_401" in entry["description"]
            assert "OTEL_EXPORTER_OTLP_HEADERS" in entry["description"]


@pytest.mark.parametrize("rejected", [2, 0])
def test_partial_success_is_counted_and_logged(rejected: int) -> None:
    with FaultyCollector(f"partial:{rejected}") as collector:
        service = RefusedService(collector.url)
        for number in (1, 2):
            service.create_span()
            assert service.telemetry.flush(5)
            assert service.dropped() == ({"rejected": number * rejected} if rejected else {})
        [line] = [line for line in service.captured.logs if line["message"].startswith("export accepted")]
        expected = "export accepted, but items were rejected" if rejected else "export accepted with a warning"
        assert (line["severity"], line["message"]) == ("WARN", expected)
        assert line["connectsoft.obs.rejected"] == rejected
        assert "over its quota" in line["connectsoft.obs.detail"]
        assert "hidden-value" not in str(service.captured.logs)
        assert service.telemetry.metrics.family(EXPORTER_STATUS).number_series("traces").cells[0] == 0
        assert len(collector.received.spans) == 2
        service.telemetry.shutdown(1)


@pytest.mark.parametrize("is_variable", [True, False])
def test_missing_grpcio_is_reported_at_start(is_variable: bool) -> None:
    arguments = "" if is_variable else ", otlp_protocol='grpc', otlp_endpoint='http://127.0.0.1:1'"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}
    code = f"""
import sys
sys.modules["grpc"] = None  # as if it were not installed
import connectsoft_obs as obs
telemetry = obs.configure(service="orders"{arguments})
telemetry.serve()
with obs.operation("import"):
    pass
telemetry.flush(5)
"""
    result = run_script(code, env=variables if is_variable else {})
    if not is_variable:
        assert result.exit_code == 1
        assert "otlp_protocol='grpc': the package grpcio is not installed. Install grpcio, or set" in result.stderr
        return
    assert result.exit_code == 0, result.stderr
    errors = [line["message"] for line in result.json_lines if line["severity"] == "ERROR"]
    assert errors[0].startswith("exporter is off: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL='grpc': the package grpcio is not")
    assert not any("thread" in message for message in errors)
