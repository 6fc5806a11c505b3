"""Runs the six services as one platform on this machine and prints a trace through all of them: `python together.py`.

Needs redis-server, and `pip install connectsoft-obs[demo] fastapi redis httpx opentelemetry-instrumentation-httpx`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXAMPLES = Path(__file__).parent
WEB_SERVICES = ("identity_api", "config_service", "saas_api", "bot_gateway")
WORKERS = ("audit_ingest", "factory_runs")


class TraceReceiver:
    """An OTLP/HTTP receiver that stores each span together with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                        resource = {item.key: item.value.string_value for item in group.resource.attributes}
                        for scope in group.scope_spans:
                            spans.extend((resource["service.name"], span) for span in scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def latest_trace(self, service: str, span_name: str) -> list[tuple[str, Any]]:
        """The spans of the latest trace in which a service has a span with a name, in the order of their start."""
        trace_ids = [span.trace_id for owner, span in self.spans if (owner, span.name) == (service, span_name)]
        trace = [(owner, span) for owner, span in self.spans if trace_ids and span.trace_id == trace_ids[-1]]
        return sorted(trace, key=lambda item: item[1].start_time_unix_nano)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Platform:
    """A context manager that runs Redis, the six services and a receiver of their traces."""

    def __init__(self, **variables: str) -> None:
        self._exit_stack = contextlib.ExitStack()
        self._folder = Path(self._exit_stack.enter_context(tempfile.TemporaryDirectory()))
        self.traces = TraceReceiver()
        self._exit_stack.callback(self.traces.close)
        ports = {name: free_port() for name in (*WEB_SERVICES, *WORKERS)}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.redis_port = free_port()
        self.audit_trail = self._folder / "audit.jsonl"
        self.redis: subprocess.Popen[bytes] | None = None
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CONNECTSOFT_"))},
            "BROKER": f"redis://127.0.0.1:{self.redis_port}/0",
            "IDENTITY_URL": self.urls["identity_api"],
            "CONFIG_URL": self.urls["config_service"],
            "SAAS_URL": self.urls["saas_api"],
            "AUDIT_TRAIL": str(self.audit_trail),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **variables,
        }
        try:
            self.start_redis()
            for name, port in ports.items():
                self._start(name, port, environment)
            for name in ports:
                wait_until(partial(self.is_ready, name), 30, f"{name} is ready: {self.output(name)[-2000:]}")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the services in the order in which they were started, then Redis."""
        running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            if process.poll() is None:
                process.kill()
                process.wait()
        self.stop_redis()
        self._exit_stack.close()

    def start_redis(self) -> None:
        """Start Redis, the broker and the store, without persistence."""
        program = shutil.which("redis-server")
        if program is None:
            message = "redis-server is not installed"
            raise SystemExit(message)
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self.redis = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: is_listening(self.redis_port), 10, "redis-server listens")

    def stop_redis(self) -> None:
        """Kill Redis."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
            self.redis = None

    def is_ready(self, name: str) -> bool:
        """Whether the readiness endpoint of a service returns 200."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.urls[name]}/health/ready", timeout=2).status_code == 200
        return False

    def output(self, name: str) -> str:
        """Standard output and standard error of a service."""
        return (self._folder / f"{name}.log").read_text()

    def sign_in(self) -> dict[str, str]:
        """Sign in and return request headers with the token and a tenant."""
        credentials = {"username": "ada", "password": "enigma"}
        response = httpx.post(f"{self.urls['identity_api']}/connect/token", json=credentials, timeout=5)
        token = response.raise_for_status().json()["access_token"]
        return {"Authorization": f"Bearer {token}", "X-Tenant-Id": "acme"}

    def send_message(self, text: str, headers: dict[str, str]) -> str:
        """Send a message to the bot and return its answer."""
        url = f"{self.urls['bot_gateway']}/messages"
        response = httpx.post(url, json={"text": text}, headers=headers, timeout=10)
        return str(response.raise_for_status().json()["answer"])

    def _start(self, name: str, port: int, environment: dict[str, str]) -> None:
        command = [sys.executable, "worker.py"]
        if name in WEB_SERVICES:
            command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
        else:
            environment = {**environment, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=EXAMPLES / name, env=environment, stdout=log, stderr=log, start_new_session=True
            )


def render_tree(trace: list[tuple[str, Any]]) -> Iterator[str]:
    """Render a trace as lines of text, children indented below their parents."""
    span_ids = {span.span_id for _, span in trace}

    def render_children(parent: bytes, depth: int) -> Iterator[str]:
        for service, span in trace:
            if span.parent_span_id == parent or (not parent and span.parent_span_id not in span_ids):
                duration = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                yield f"{'   ' * depth}{span.name:{60 - 3 * depth}}{service:18}{duration:9.2f} ms"
                yield from render_children(span.span_id, depth + 1)

    yield from render_children(b"", 0)


def services_of(trace: list[tuple[str, Any]]) -> set[str]:
    """The names of the services that took part in a trace."""
    return {service for service, _ in trace}


def wait_until(condition: Callable[[], Any], seconds: float, description: str) -> None:
    """Poll a condition; raise TimeoutError after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(description)
        time.sleep(0.02)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on a loopback port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Request a project through the bot and print the trace."""
    with Platform() as platform:
        print("bot:", platform.send_message("build shop", platform.sign_in()))

        def trace() -> list[tuple[str, Any]]:
            return platform.traces.latest_trace("audit-ingest", "process audit-events")

        wait_until(lambda: len(services_of(trace())) >= 6, 15, "a trace through six services")
        print("\n".join(render_tree(trace())))
        for name, url in platform.urls.items():
            print(f"{name:16} {url}/health  {url}/metrics")
        if sys.stdout.isatty() and "--once" not in sys.argv:
            input("Press Enter to stop")


if __name__ == "__main__":
    main()
