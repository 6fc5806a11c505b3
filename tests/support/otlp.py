"""A collector's end: takes OTLP over HTTP and gRPC, decodes it with the official messages, and keeps it."""

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

_KINDS: dict[str, tuple[Any, Any]] = {
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
class Received:
    """What arrived, request by request."""

    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def _of(self, path: str) -> list[Any]:
        return [message for kind, message in list(self.requests) if kind == path]

    @property
    def spans(self) -> list[Any]:
        """Every span."""
        return [
            span
            for message in self._of("/v1/traces")
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def logs(self) -> list[Any]:
        """Every log record."""
        return [
            record
            for message in self._of("/v1/logs")
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The resource of every request."""
        found = []
        for _, message in list(self.requests):
            for field_ in ("resource_spans", "resource_metrics", "resource_logs"):
                found += [attributes(part.resource.attributes) for part in getattr(message, field_, [])]
        return found

    def metric(self, name: str) -> Any:
        """The last message of a metric, or None."""
        found = None
        for message in self._of("/v1/metrics"):
            for resource in message.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            found = metric
        return found


def attributes(pairs: Any) -> dict[str, Any]:
    """KeyValue messages as a dictionary."""
    return {pair.key: value(pair.value) for pair in pairs}


def value(message: Any) -> Any:
    """An AnyValue as Python has it."""
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in message.array_value.values]
    if kind == "kvlist_value":
        return attributes(message.kvlist_value.values)
    return getattr(message, kind) if kind else None


class HttpSink:
    """OTLP/HTTP on a loopback port."""

    def __init__(self, port: int = 0) -> None:
        self.received = Received()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                request, response = _KINDS[self.path]
                received.headers.append(dict(self.headers.items()))
                received.requests.append((self.path, request.FromString(body)))
                answer = response().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Silent."""

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
    """OTLP/gRPC on a loopback port."""

    def __init__(self) -> None:
        self.received = Received()
        received = self.received

        class Generic(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                path = _METHODS.get(details.method)
                if path is None:
                    return None
                request, response = _KINDS[path]

                def export(message: Any, context: Any) -> Any:
                    received.headers.append(dict(context.invocation_metadata()))
                    received.requests.append((path, message))
                    return response()

                return grpc.unary_unary_rpc_method_handler(
                    export,
                    request_deserializer=request.FromString,
                    response_serializer=response.SerializeToString,
                )

        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((Generic(),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{self.port}"
        self._server.start()

    def __enter__(self) -> GrpcSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0)
