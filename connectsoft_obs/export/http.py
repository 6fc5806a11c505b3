"""OTLP over HTTP with binary protobuf, on one keep-alive connection.

It uses http.client because no instrumentation patches it, so that exports are never traced and exported themselves.
Follows the OTLP specification 1.x: 429, 502, 503 and 504 are retried, with Retry-After; 413 asks for smaller requests.
"""

from __future__ import annotations

import gzip
import http.client
import math
import socket
import time
import urllib.request
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from connectsoft_obs.export.destination import Destination
from connectsoft_obs.export.failures import (
    RETRYABLE_STATUS,
    detect_wrong_port,
    redirect_target,
    refusal,
    result_of_error,
)
from connectsoft_obs.export.tls import TlsCache, create_context
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.vocabulary import Signal

_MAX_RESPONSE_BYTES = 65536


class HttpTransport:
    """One connection to one collector; used by one thread."""

    def __init__(self, destination: Destination) -> None:
        from importlib import metadata  # imported here: it would add 10 ms to importing the package

        self._destination = destination
        self._tls = TlsCache(destination, lambda: create_context(destination))
        self._connection: http.client.HTTPConnection | None = None
        self._has_response = False
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"OTel-OTLP-Exporter-Python/{metadata.version('opentelemetry-sdk')} connectsoft-obs",
            **({"Content-Encoding": "gzip"} if destination.gzip else {}),
            **destination.headers,
        }

    def send(self, payload: bytes, timeout: float) -> ExportResult:
        """POST one request. A connection that the collector closed while idle is replaced once, without an error."""
        body = gzip.compress(payload, 1) if self._destination.gzip else payload
        deadline = time.monotonic() + timeout
        reused = self._connection is not None
        result = self._attempt(body, timeout)
        if reused and result.reason == "closed" and (remaining := deadline - time.monotonic()) > 0:
            result = self._attempt(body, remaining)
        if result.reason in ("closed", "garbage") and not self._has_response:
            return self._detect_wrong_port(result, deadline)
        return result

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _attempt(self, body: bytes, timeout: float) -> ExportResult:
        try:
            connection = self._get_connection(timeout)
            connection.request("POST", self._path(connection), body, self._headers)
            response = connection.getresponse()
            content = response.read(_MAX_RESPONSE_BYTES)
            if (
                response.length and len(content) < _MAX_RESPONSE_BYTES
            ):  # incomplete: it is unknown whether the request was accepted
                raise http.client.IncompleteRead(content, response.length)
            if not response.isclosed() or response.will_close:  # unread data, or the collector closes the connection
                self.close()
        except Exception as error:  # noqa: BLE001  any network error is a failed export
            self.close()
            return result_of_error(error)
        self._has_response = True
        if 200 <= response.status < 300:
            rejected, message = partial_success(self._destination.signal, content)
            return ExportResult(True, rejected=rejected, detail=message)
        retry = response.status in RETRYABLE_STATUS
        return ExportResult(
            False,
            retry=retry,
            reason=f"http_{response.status}",
            retry_after=retry_after(response.getheader("Retry-After")),
            too_large=response.status == 413,
            refused=not retry,
            detail=redirect_target(response.getheader("Location")) if 300 <= response.status < 400 else "",
        )

    def _detect_wrong_port(self, result: ExportResult, deadline: float) -> ExportResult:
        """Refusal if the port has never responded to HTTP and speaks gRPC or TLS; otherwise the result of the attempt."""
        destination, seconds = self._destination, min(1.0, deadline - time.monotonic())
        if destination.secure or seconds <= 0 or self._proxy():
            return result
        reason = detect_wrong_port(destination.host, destination.port, seconds, accepts_http2=False)
        return refusal(reason) if reason else result

    def _get_connection(self, timeout: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open(timeout)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        destination = self._destination
        proxy = self._proxy()
        host, port = proxy or (destination.host, destination.port)
        connection: http.client.HTTPConnection
        if destination.secure:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls.get())
            if proxy:
                connection.set_tunnel(destination.host, destination.port)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _proxy(self) -> tuple[str, int] | None:
        """Host and port of the proxy from HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or None."""
        destination = self._destination
        address = urllib.request.getproxies().get("https" if destination.secure else "http")
        if not address or urllib.request.proxy_bypass(destination.host):
            return None
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return (parts.hostname, parts.port or 3128) if parts.hostname else None

    def _path(self, connection: http.client.HTTPConnection) -> str:
        through_proxy = not self._destination.secure and (connection.host, connection.port) != (
            self._destination.host,
            self._destination.port,
        )
        return (
            f"http://{self._destination.host}:{self._destination.port}{self._destination.path}"
            if through_proxy
            else self._destination.path
        )


def partial_success(signal: Signal, content: bytes) -> tuple[int, str]:
    """Number of rejected items and message in the protobuf body of a response; 0 and "" if it cannot be parsed."""
    if not content:
        return 0, ""
    with suppress(Exception), import_guard():  # the body can be anything
        if signal is Signal.TRACES:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

            spans = ExportTraceServiceResponse.FromString(content).partial_success
            return int(spans.rejected_spans), str(spans.error_message)
        if signal is Signal.LOGS:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

            records = ExportLogsServiceResponse.FromString(content).partial_success
            return int(records.rejected_log_records), str(records.error_message)
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        points = ExportMetricsServiceResponse.FromString(content).partial_success
        return int(points.rejected_data_points), str(points.error_message)
    return 0, ""


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110): a number or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    with suppress(ValueError, TypeError, OverflowError):
        date = parsedate_to_datetime(value)  # without a time zone for "-0000", which is UTC
        return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time(), 0.0)
    return None
