"""A collector's end for the demo: takes OTLP over HTTP and keeps the last traces."""

from __future__ import annotations

import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_KEPT = 50


class Collector:
    """Listens on a loopback port until `close()`. Counts spans and metric points, keeps the last traces."""

    def __init__(self) -> None:
        self.spans: int = 0
        self.metrics: set[str] = set()
        self._traces: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Take one request."""
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path.endswith("/v1/traces"):
                    collector.take_spans(ExportTraceServiceRequest.FromString(body))
                else:
                    collector.take_metrics(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take_spans(self, request: Any) -> None:
        """Keep the spans of an export."""
        with self._lock:
            for span in (s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans):
                self.spans += 1
                self._traces.setdefault(span.trace_id, []).append(span)
                self._traces.move_to_end(span.trace_id)
            while len(self._traces) > _KEPT:
                self._traces.popitem(last=False)

    def take_metrics(self, request: Any) -> None:
        """Note which metrics came."""
        with self._lock:
            self.metrics |= {m.name for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}

    def last_trace(self) -> list[Any]:
        """The spans of the newest trace that has the most of them, from its start."""
        with self._lock:
            found = max(reversed(self._traces.values()), key=len, default=[])
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
