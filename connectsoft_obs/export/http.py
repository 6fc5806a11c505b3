"""OTLP over HTTP with binary protobuf, on one kept connection.

http.client on purpose: no client instrumentation patches it, so exports can never be traced and exported themselves.
Follows the OTLP specification 1.x: 429, 502, 503 and 504 may be retried, with Retry-After; 413 means smaller requests.
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
_ANSWER_LIMIT = 65536


class HttpTransport:
    """One connection to one collector; used by one thread."""

    def __init__(self, destination: Destination) -> None:
        from importlib import metadata  # 10 ms that importing the package need not take

        self._to = destination
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"OTel-OTLP-Exporter-Python/{metadata.version('opentelemetry-sdk')} connectsoft-obs",
            **({"Content-Encoding": "gzip"} if destination.gzip else {}),
            **destination.headers,
        }

    def send(self, payload: bytes, timeout: float) -> ExportResult:
        """POST one request. A connection that the collector closed while idle is replaced once, without a word."""
        body = gzip.compress(payload, 1) if self._to.gzip else payload
        deadline = time.monotonic() + timeout
        reused = self._connection is not None
        answer = self._attempt(body, timeout)
        if reused and answer.reason == "closed" and (left := deadline - time.monotonic()) > 0:
            answer = self._attempt(body, left)
        return answer

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _attempt(self, body: bytes, timeout: float) -> ExportResult:
        try:
            connection = self._connected(timeout)
            connection.request("POST", self._path(connection), body, self._headers)
            response = connection.getresponse()
            content = response.read(_ANSWER_LIMIT)
            if response.length and len(content) < _ANSWER_LIMIT:  # cut off: nobody knows whether it was taken
                raise http.client.IncompleteRead(content, response.length)
            if not response.isclosed() or response.will_close:  # more than we read, or the collector hangs up
                self.close()
        except Exception as error:  # noqa: BLE001  whatever the network does is an answer
            self.close()
            return ExportResult(False, retry=not isinstance(error, ssl.SSLCertVerificationError), reason=_reason(error))
        if 200 <= response.status < 300:
            return ExportResult(True, rejected=rejected(self._to.signal, content))
        return ExportResult(
            False,
            retry=response.status in _RETRYABLE,
            reason=f"http_{response.status}",
            retry_after=retry_after(response.getheader("Retry-After")),
            too_large=response.status == 413,
        )

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open(timeout)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        to = self._to
        proxy = self._proxy()
        host, port = proxy or (to.host, to.port)
        connection: http.client.HTTPConnection
        if to.secure:
            context = ssl.create_default_context(cafile=to.certificate)
            if to.client_certificate:
                context.load_cert_chain(to.client_certificate, to.client_key)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
            if proxy:
                connection.set_tunnel(to.host, to.port)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _proxy(self) -> tuple[str, int] | None:
        """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY ask for."""
        to = self._to
        address = urllib.request.getproxies().get("https" if to.secure else "http")
        if not address or urllib.request.proxy_bypass(to.host):
            return None
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return (parts.hostname, parts.port or 3128) if parts.hostname else None

    def _path(self, connection: http.client.HTTPConnection) -> str:
        through_proxy = not self._to.secure and (connection.host, connection.port) != (self._to.host, self._to.port)
        return f"http://{self._to.host}:{self._to.port}{self._to.path}" if through_proxy else self._to.path


def rejected(signal: Signal, content: bytes) -> int:
    """Items a collector says it refused, in the protobuf body of its answer; 0 for anything that cannot be read."""
    if not content:
        return 0
    with suppress(Exception), import_guard():  # an answer is a stranger's text
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
    """Seconds of a Retry-After header (RFC 9110): a number, or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None
