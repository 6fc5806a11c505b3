"""Exports that a collector refuses permanently: log lines, state, health details and drop counts."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.certificates import self_signed_certificate
from support.faulty_collector import FaultyCollector
from support.otlp import GrpcSink, HttpSink
from support.process import wait_for

from connectsoft_obs.export import backoff
from connectsoft_obs.export.http import retry_after
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter
from connectsoft_obs.vocabulary import DROPPED, EXPORTER_STATUS


class RefusedService:
    """A Telemetry that exports spans one by one."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.captured = Captured()
        defaults = {"metrics_exporter": "none", "span_schedule_delay": 0.02, "otlp_timeout": 2}
        settings = load_settings({}, service="refused", otlp_endpoint=endpoint, **(defaults | options))
        self.telemetry = Telemetry(settings, output=CapturingLogWriter(self.captured), exports=True)

    def create_span(self) -> None:
        self.telemetry.tracing.tracer.start_span("span").end()

    def dropped(self) -> dict[str, float]:
        series = self.telemetry.metrics.family(DROPPED).children
        return {reason: child.cells[0] for (_, reason), child in series.items()}

    def refusals(self) -> list[dict[str, Any]]:
        return [line for line in self.captured.logs if line["message"].startswith("export refused")]

    def assert_refused(self, reason: str, text: str) -> None:
        for number in range(1, 4):
            self.create_span()
            self.telemetry.flush(5)
            assert self.dropped() == {reason: number}, f"{self.captured.logs}"
        [line] = self.refusals()
        assert (line["severity"], line["connectsoft.obs.signal"], line["connectsoft.obs.reason"]) == (
            "ERROR",
            "traces",
            reason,
        )
        assert text in line["connectsoft.obs.action"] + line.get("connectsoft.obs.detail", "")
        assert self.telemetry.metrics.family(EXPORTER_STATUS).number_series("traces").cells[0] == 2
        [entry] = [entry for entry in self.telemetry.health.full_report().entries if entry.name == "export-traces"]
        assert reason in str(entry)
        self.telemetry.shutdown(1)


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Accept TLS connections, one at a time, and respond with 200 to the first request of each; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(65536)
                    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    while stream.recv(65536):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("mode", "text"),
    [("401", "token"), ("403", "token"), ("404", "/v1/traces"), ("301", "redirect"), ("400", "OTLP receiver")],
)
def test_refusal_by_http_status_is_reported(mode: str, text: str) -> None:
    with FaultyCollector(mode) as collector:
        url = collector.url.replace("://", "://user:hidden@")
        service = RefusedService(url)
        service.assert_refused(f"http_{mode}", text)
        assert "hidden" not in str(service.captured.logs)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_refusal_by_certificates_is_reported(protocol: str, tmp_path: Path) -> None:
    certificate = self_signed_certificate(tmp_path, 10)
    with tls_server(certificate) as port:
        url = f"https://127.0.0.1:{port}"
        RefusedService(url, otlp_protocol=protocol).assert_refused("tls_certificate", "OTEL_EXPORTER_OTLP_CERTIFICATE")
        missing = RefusedService(url, otlp_protocol=protocol, otlp_certificate=str(tmp_path / "missing.pem"))
        missing.assert_refused("certificate_file", "missing.pem")
        RefusedService(url.replace("https", "http"), otlp_protocol=protocol).assert_refused("tls_port", "https://")


def test_wrong_port_is_reported_with_both_ports() -> None:
    with GrpcSink() as sink:
        RefusedService(sink.url).assert_refused("grpc_port", "4317")
    with HttpSink() as http_sink:
        RefusedService(http_sink.url, otlp_protocol="grpc").assert_refused("http_port", "4318")
        RefusedService(http_sink.url.replace("http", "https")).assert_refused("plaintext_port", "http://")


def test_recovery_after_a_refusal_is_logged() -> None:
    with FaultyCollector("401") as collector:
        service = RefusedService(collector.url)
        service.create_span()
        wait_for(service.refusals, 5)
        collector.set_mode("ok")
        service.create_span()
        wait_for(lambda: "export recovered" in [line["message"] for line in service.captured.logs], 5)
        service.telemetry.shutdown(1)


def test_tls_context_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def create_and_record(**options: Any) -> ssl.SSLContext:
        contexts.append(create(**options))
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", create_and_record)
    with tls_server(self_signed_certificate(tmp_path, 10)) as port:
        RefusedService(f"https://127.0.0.1:{port}").assert_refused("tls_certificate", "certificate")
    assert len(contexts) == 1


def test_tls_context_is_built_again_after_a_file_changes(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(self_signed_certificate(tmp_path, 5).read_bytes())
    certificate = self_signed_certificate(tmp_path, 10)
    with tls_server(certificate) as port:
        service = RefusedService(f"https://localhost:{port}", otlp_certificate=str(trusted))
        service.create_span()
        wait_for(service.refusals, 5)
        trusted.write_bytes(certificate.read_bytes())
        service.create_span()
        wait_for(lambda: "export recovered" in [line["message"] for line in service.captured.logs], 10)
        service.telemetry.shutdown(1)


def test_retry_after_delays_the_next_attempt() -> None:
    with FaultyCollector("503:1") as collector:
        service = RefusedService(collector.url)
        service.create_span()
        wait_for(lambda: collector.request_count, 5)
        started = time.monotonic()
        wait_for(lambda: collector.request_count == 2, 5)
        assert time.monotonic() - started > 0.9
        service.telemetry.shutdown(0.1)


def test_retry_after_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backoff.Backoff().next_pause(3600) == backoff.MAX_RETRY_AFTER == 120
    monkeypatch.setattr(backoff, "MAX_RETRY_AFTER", 0.6)
    with FaultyCollector("503:3600") as collector:
        service = RefusedService(collector.url)
        service.create_span()
        wait_for(lambda: collector.request_count >= 2, 5)
        service.telemetry.shutdown(0.1)


def test_retry_after_accepts_seconds_and_dates() -> None:
    assert retry_after("7") == 7
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert (retry_after("Fri, 01 Jan 2100 00:00:00 -0000") or 0) > 0
    assert [retry_after(value) for value in (None, "inf", "soon")] == [None, None, None]
