"""Secrets in the settings of an exporter, and in what a collector answers, appear in no output of a service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from support.process import Service, uvicorn, wait_for

API_KEY = "4f9d-plain-key-81c2"
BEARER = "q7Zk-bearer-value-xT"
OTHER_SECRETS = ("url-password", "query-value", "redirect-password", "redirect-value", "collector-value")
HEADERS = {"authorization": "Bearer details-access"}


@contextmanager
def http_collector() -> Iterator[str]:
    """A receiver that repeats the credentials of each request in every part of its response; yields its authority.

    Traces are accepted in part and then refused; metrics are redirected.
    """
    trace_requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal trace_requests
            self.rfile.read(int(self.headers["content-length"]))
            received = f"{self.headers['x-team']} {self.headers['authorization']} password=collector-value"
            if self.path.startswith("/v1/metrics"):
                location = f"http://user:redirect-password@127.0.0.1:9/v1/metrics?token=redirect-value&x={API_KEY}"
                self.respond(307, received, received.encode(), location)
                return
            trace_requests += 1
            if trace_requests > 1:
                self.respond(401, received, received.encode())
                return
            response = ExportTraceServiceResponse()
            response.partial_success.rejected_spans = 1
            response.partial_success.error_message = f"the key {received} is over its quota"
            self.respond(200, "OK", response.SerializeToString())

        def respond(self, status: int, phrase: str, content: bytes, location: str = "") -> None:
            self.send_response(status, phrase)
            if location:
                self.send_header("location", location)
            self.send_header("www-authenticate", phrase)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def grpc_collector() -> Iterator[str]:
    """A receiver that refuses each request with its credentials in the message; yields its authority."""

    def refuse(_: Any, context: Any) -> None:
        received = dict(context.invocation_metadata())
        message = f"unknown team {received['x-team']} {received['authorization']} password=collector-value"
        context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def reported(service: Service) -> set[tuple[str, str]]:
    """Message and signal of the log lines about exports."""
    lines = [line for line in service.json_lines if line["message"].startswith("export ")]
    return {(line["message"].partition(";")[0], line["connectsoft.obs.signal"]) for line in lines}


def test_secrets_of_exporters_and_collectors_are_not_shown() -> None:
    with http_collector() as authority, grpc_collector() as grpc_authority:
        env = {
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-team={API_KEY},authorization=Bearer {BEARER}",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://user:url-password@{authority}/v1/traces?key=query-value",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://user:url-password@{authority}/v1/metrics",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://user:url-password@{grpc_authority}",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "CONNECTSOFT_OBS_DETAILS_TOKEN": "details-access",
        }
        with uvicorn("outcomes:app", env=env) as service:
            service.wait_until_ready("/health/live")
            expected = {
                ("export accepted, but items were rejected", "traces"),
                *(("export refused", signal) for signal in ("traces", "metrics", "logs")),
            }
            wait_for(
                lambda: httpx.get(f"{service.url}/x").status_code and reported(service) >= expected, 20, service.output
            )
            pages = {
                path: httpx.get(service.url + path, headers=HEADERS).text
                for path in ("/health", "/health/ready", "/metrics", "/info")
            }
            assert "http_401" in pages["/health"]
            service.stop()
        pages["output"] = service.output
    assert "is over its quota" in service.output
    assert "unknown team" in service.output
    for secret in (API_KEY, BEARER, *OTHER_SECRETS):
        for name, page in pages.items():
            assert secret not in page, f"{secret} in {name}"
