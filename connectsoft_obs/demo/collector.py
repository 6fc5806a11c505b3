"""An OTLP/HTTP receiver that stores the most recent traces in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_MAX_TRACES = 50


class Collector:
    """Listens on a loopback port until `close()`. Counts spans, and stores metric names and the most recent traces."""

    def __init__(self) -> None:
        self.span_count: int = 0
        self.metric_names: set[str] = set()
        self._traces: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Handle an export request."""
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path.endswith("/v1/traces"):
                    collector.add_spans(ExportTraceServiceRequest.FromString(body))
                else:
                    collector.add_metrics(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add_spans(self, request: Any) -> None:
        """Store the spans of an export request."""
        with self._lock:
            for span in (s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans):
                self.span_count += 1
                self._traces.setdefault(span.trace_id, []).append(span)
                self._traces.move_to_end(span.trace_id)
            while len(self._traces) > _MAX_TRACES:
                self._traces.popitem(last=False)

    def add_metrics(self, request: Any) -> None:
        """Store the names of the metrics in an export request."""
        with self._lock:
            self.metric_names |= {m.name for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}

    def largest_trace(self) -> list[Any]:
        """Return the spans of the trace with the most spans, the newest of several, ordered by start time."""
        with self._lock:
            spans = max(reversed(self._traces.values()), key=len, default=[])
        return sorted(spans, key=lambda span: span.start_time_unix_nano)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
