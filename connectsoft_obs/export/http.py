"""OTLP over HTTP with binary protobuf, on one keep-alive connection.

It uses http.client because no instrumentation patches it, so that exports are never traced and exported themselves.
Follows the OTLP specification 1.x: 429, 502, 503 and 504 are retried, with Retry-After; 413 asks for smaller requests.
"""

from __future__ import annotations

import gzip
import http.client
import math
import socket
import ssl
import time
import urllib.request
from contextlib import suppress
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from connectsoft_obs.export.destination import Destination
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.vocabulary import Signal

_RETRYABLE = frozenset({429, 502, 503, 504})
_MAX_RESPONSE_BYTES = 65536


class HttpTransport:
    """One connection to one collector; used by one thread."""

    def __init__(self, destination: Destination) -> None:
        from importlib import metadata  # imported here: it would add 10 ms to importing the package

        self._destination = destination
        self._connection: http.client.HTTPConnection | None = None
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
            return ExportResult(False, retry=not isinstance(error, ssl.SSLCertVerificationError), reason=_reason(error))
        if 200 <= response.status < 300:
            return ExportResult(True, rejected=rejected_items(self._destination.signal, content))
        return ExportResult(
            False,
            retry=response.status in _RETRYABLE,
            reason=f"http_{response.status}",
            retry_after=retry_after(response.getheader("Retry-After")),
            too_large=response.status == 413,
        )

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
            context = ssl.create_default_context(cafile=destination.certificate)
            if destination.client_certificate:
                context.load_cert_chain(destination.client_certificate, destination.client_key)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
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


def rejected_items(signal: Signal, content: bytes) -> int:
    """Number of rejected items in the protobuf body of a response; 0 if the body cannot be parsed."""
    if not content:
        return 0
    with suppress(Exception), import_guard():  # the body can be anything
        if signal is Signal.TRACES:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

            return int(ExportTraceServiceResponse.FromString(content).partial_success.rejected_spans)
        if signal is Signal.LOGS:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

            return int(ExportLogsServiceResponse.FromString(content).partial_success.rejected_log_records)
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        return int(ExportMetricsServiceResponse.FromString(content).partial_success.rejected_data_points)
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "closed"
    if isinstance(error, http.client.HTTPException):
        return "garbage"
    return "network" if isinstance(error, OSError) else type(error).__name__


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110): a number or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None
