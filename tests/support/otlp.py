"""OTLP receivers over HTTP and gRPC that decode requests with the official protobuf messages and store them."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

MESSAGE_TYPES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}
_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "/v1/traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "/v1/metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "/v1/logs",
}


@dataclass
class ReceivedTelemetry:
    """The requests that a receiver has accepted."""

    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def _messages(self, path: str) -> list[Any]:
        return [message for request_path, message in list(self.requests) if request_path == path]

    @property
    def spans(self) -> list[Any]:
        """Every received span."""
        return [
            span
            for message in self._messages("/v1/traces")
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def logs(self) -> list[Any]:
        """Every received log record."""
        return [
            record
            for message in self._messages("/v1/logs")
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The resource attributes of every request."""
        return [
            decode_attributes(part.resource.attributes)
            for _, message in list(self.requests)
            for field_name in ("resource_spans", "resource_metrics", "resource_logs")
            for part in getattr(message, field_name, [])
        ]

    def metric(self, name: str) -> Any:
        """The most recently received data of a metric, or None."""
        latest = None
        for message in self._messages("/v1/metrics"):
            for resource in message.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            latest = metric
        return latest


def decode_attributes(pairs: Any) -> dict[str, Any]:
    """Convert KeyValue messages to a dictionary."""
    return {pair.key: decode_value(pair.value) for pair in pairs}


def decode_value(message: Any) -> Any:
    """Convert an AnyValue message to a Python value."""
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return [decode_value(item) for item in message.array_value.values]
    if kind == "kvlist_value":
        return decode_attributes(message.kvlist_value.values)
    return getattr(message, kind) if kind else None


def partial_success_response(path: str, rejected: int) -> bytes:
    """Body of a response that rejects some items of an accepted request, with a message."""
    response: Any = MESSAGE_TYPES[path][1]()
    name = {"/v1/traces": "rejected_spans", "/v1/metrics": "rejected_data_points", "/v1/logs": "rejected_log_records"}[
        path
    ]
    setattr(response.partial_success, name, rejected)
    response.partial_success.error_message = "token=hidden-value is over its quota"
    content: bytes = response.SerializeToString()
    return content


class HttpSink:
    """An OTLP/HTTP receiver on a loopback port."""

    def __init__(self, port: int = 0) -> None:
        self.received = ReceivedTelemetry()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                request_type, response_type = MESSAGE_TYPES[self.path]
                received.headers.append(dict(self.headers.items()))
                received.requests.append((self.path, request_type.FromString(body)))
                content = response_type().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> HttpSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class GrpcSink:
    """An OTLP/gRPC receiver on a loopback port."""

    def __init__(self) -> None:
        self.received = ReceivedTelemetry()
        received = self.received

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                path = _METHODS.get(details.method)
                if path is None:
                    return None
                request_type, response_type = MESSAGE_TYPES[path]

                def export(message: Any, context: Any) -> Any:
                    received.headers.append(dict(context.invocation_metadata()))
                    received.requests.append((path, message))
                    return response_type()

                return grpc.unary_unary_rpc_method_handler(
                    export,
                    request_deserializer=request_type.FromString,
                    response_serializer=response_type.SerializeToString,
                )

        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((Handler(),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{self.port}"
        self._server.start()

    def __enter__(self) -> GrpcSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0)
