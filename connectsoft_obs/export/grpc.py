"""OTLP over gRPC with requests that are already encoded. Imported only if a gRPC endpoint is configured.

Retryable status codes follow the OTLP specification 1.x.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import grpc

from connectsoft_obs.export.destination import Destination
from connectsoft_obs.export.failures import detect_wrong_port, refusal, result_of_error, tls_refusal
from connectsoft_obs.export.http import partial_success
from connectsoft_obs.export.tls import CertificateFileError, TlsCache, create_context
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.process.fork_safety import import_guard

_RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class GrpcTransport:
    """One channel to one collector, opened with the first export of a process; used by one thread."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._metadata = [(name.lower(), value) for name, value in destination.headers.items()]
        self._tls = TlsCache(destination, lambda: _create_credentials(destination))
        self._has_response = False
        self._channel: Any = None
        self._call: Any = None

    def send(self, payload: bytes, timeout: float) -> ExportResult:
        """Call Export with one request."""
        deadline = monotonic() + timeout
        try:
            if self._call is None:
                with import_guard():  # grpc imports more modules with its first channel
                    self._open()
            response = self._call(payload, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._result_of_error(error, deadline)
        except CertificateFileError as error:
            return result_of_error(error)
        except Exception as error:  # noqa: BLE001  any failure of the channel is a failed export
            self.close()
            return ExportResult(False, retry=True, reason=type(error).__name__)
        self._has_response = True
        rejected, message = partial_success(self._destination.signal, response)
        return ExportResult(True, rejected=rejected, detail=message)

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            with suppress(Exception):
                channel.close()

    def _open(self) -> None:
        destination = self._destination
        address = (
            f"[{destination.host}]:{destination.port}"
            if ":" in destination.host
            else f"{destination.host}:{destination.port}"
        )
        compression = grpc.Compression.Gzip if destination.gzip else grpc.Compression.NoCompression
        if destination.secure:
            self._channel = grpc.secure_channel(address, self._tls.get(), compression=compression)
        else:
            self._channel = grpc.insecure_channel(address, compression=compression)
        self._call = self._channel.unary_unary(destination.path, request_serializer=None, response_deserializer=None)

    def _result_of_error(self, error: Any, deadline: float) -> ExportResult:
        code, details = error.code(), str(error.details() or "")
        if code is grpc.StatusCode.UNAVAILABLE:
            self.close()  # a channel waits up to two minutes before it reconnects; a new channel connects at once
            if reason := self._connection_refusal(details, deadline):
                return refusal(reason)
        else:
            self._has_response = self._has_response or code is not grpc.StatusCode.DEADLINE_EXCEEDED
        reason = f"grpc_{code.name.lower()}" if code is not None else "grpc"
        exhausted = code is grpc.StatusCode.RESOURCE_EXHAUSTED
        retry_delay = _retry_info(error) if exhausted or code is grpc.StatusCode.UNAVAILABLE else None
        retry = code in _RETRYABLE or (exhausted and retry_delay is not None)
        return ExportResult(
            False,
            retry=retry,
            reason=reason,
            retry_after=retry_delay,
            too_large=exhausted and not retry,
            refused=not retry,
            detail="" if retry else details,
        )

    def _connection_refusal(self, details: str, deadline: float) -> str:
        """Reason if no connection is possible because of a certificate, the port or the protocol; "" otherwise."""
        if reason := tls_refusal(details):
            return reason
        if any(text in details for text in ("http1.x server", "missing selected ALPN", "Expected SETTINGS frame")):
            return "http_port"
        destination, seconds = self._destination, min(1.0, deadline - monotonic())
        is_closed = "reset" in details or "closed" in details
        if self._has_response or destination.secure or seconds <= 0 or not is_closed:
            return ""
        return detect_wrong_port(destination.host, destination.port, seconds, accepts_http2=True)


def _create_credentials(destination: Destination) -> Any:
    if destination.certificate or destination.client_certificate:
        create_context(destination)  # gRPC does not report which file is invalid
    return grpc.ssl_channel_credentials(
        _read_file(destination.certificate),
        _read_file(destination.client_key),
        _read_file(destination.client_certificate),
    )


def _read_file(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _retry_info(error: Any) -> float | None:
    """Seconds from a google.rpc.RetryInfo detail, or None."""
    with suppress(Exception):
        with import_guard():
            from google.rpc.error_details_pb2 import RetryInfo
            from google.rpc.status_pb2 import Status

        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
