"""OTLP over gRPC, sending bytes that are already encoded. Imported only when a gRPC collector is configured.

Retryable codes are those of the OTLP specification 1.x.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from connectsoft_obs.export.destination import Destination
from connectsoft_obs.export.http import rejected
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
    """One channel to one collector, opened at the first export of a process; used by one thread."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        self._metadata = [(name.lower(), value) for name, value in destination.headers.items()]
        self._channel: Any = None
        self._call: Any = None

    def send(self, payload: bytes, timeout: float) -> ExportResult:
        """Call Export with one request."""
        try:
            if self._call is None:
                with import_guard():  # grpc imports a part of itself with its first channel
                    self._open()
            content = self._call(payload, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._refused(error)
        except Exception as error:  # noqa: BLE001  whatever the channel does is an answer
            self.close()
            return ExportResult(False, retry=True, reason=type(error).__name__)
        return ExportResult(True, rejected=rejected(self._to.signal, content))

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            with suppress(Exception):
                channel.close()

    def _open(self) -> None:
        to = self._to
        address = f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}"
        compression = grpc.Compression.Gzip if to.gzip else grpc.Compression.NoCompression
        if to.secure:
            credentials = grpc.ssl_channel_credentials(
                _content(to.certificate), _content(to.client_key), _content(to.client_certificate)
            )
            self._channel = grpc.secure_channel(address, credentials, compression=compression)
        else:
            self._channel = grpc.insecure_channel(address, compression=compression)
        self._call = self._channel.unary_unary(to.path, request_serializer=None, response_deserializer=None)

    def _refused(self, error: Any) -> ExportResult:
        code = error.code()
        if code is grpc.StatusCode.UNAVAILABLE:
            self.close()  # a channel waits up to two minutes before it tries again by itself; a new one tries at once
        reason = f"grpc_{code.name.lower()}" if code is not None else "grpc"
        exhausted = code is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait = _retry_info(error) if exhausted or code is grpc.StatusCode.UNAVAILABLE else None
        retry = code in _RETRYABLE or (exhausted and wait is not None)
        return ExportResult(False, retry=retry, reason=reason, retry_after=wait, too_large=exhausted and not retry)


def _content(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _retry_info(error: Any) -> float | None:
    """Seconds of a google.rpc.RetryInfo detail, if the collector sent one."""
    with suppress(Exception):
        with import_guard():
            from google.rpc.error_details_pb2 import RetryInfo
            from google.rpc.status_pb2 import Status

        for key, content in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in Status.FromString(content).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
