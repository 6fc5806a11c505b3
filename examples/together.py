"""The six services as one platform on this machine: `python together.py` starts them, talks to the bot, shows the trace.

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

HERE = Path(__file__).parent
WEB = ("identity_api", "config_service", "saas_api", "bot_gateway")
WORKERS = ("audit_ingest", "factory_runs")


class Traces:
    """The end of a collector: takes spans over OTLP and keeps them by trace, with the service that sent each."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        keep = self.spans.append

        class Taker(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        facts = {one.key: one.value.string_value for one in resource.resource.attributes}
                        for scope in resource.scope_spans:
                            for span in scope.spans:
                                keep((facts["service.name"], span))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def with_span(self, service: str, name: str) -> list[tuple[str, Any]]:
        """The newest trace in which a service has a span of this name, from its start."""
        found = [span.trace_id for sender, span in self.spans if (sender, span.name) == (service, name)]
        trace = [pair for pair in self.spans if found and pair[1].trace_id == found[-1]]
        return sorted(trace, key=lambda pair: pair[1].start_time_unix_nano)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Platform:
    """Redis, the six services and a collector's end, for as long as the block lasts."""

    def __init__(self, **variables: str) -> None:
        self._ends = contextlib.ExitStack()
        self._folder = Path(self._ends.enter_context(tempfile.TemporaryDirectory()))
        self.traces = Traces()
        self._ends.callback(self.traces.close)
        ports = {name: free_port() for name in (*WEB, *WORKERS)}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.redis_port = free_port()
        self.trail = self._folder / "audit.jsonl"
        self.redis: subprocess.Popen[bytes] | None = None
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CONNECTSOFT_"))},
            "BROKER": f"redis://127.0.0.1:{self.redis_port}/0",
            "IDENTITY_URL": self.urls["identity_api"],
            "CONFIG_URL": self.urls["config_service"],
            "SAAS_URL": self.urls["saas_api"],
            "AUDIT_TRAIL": str(self.trail),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **variables,
        }
        try:
            self.start_redis()
            for name, port in ports.items():
                self._start(name, port, environment)
            for name in ports:
                until(partial(self.ready, name), 30, f"{name} is ready: {self.said(name)[-2000:]}")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what was started, the first service first."""
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
        self._ends.close()

    def start_redis(self) -> None:
        """A broker and store that keeps nothing on disk."""
        program = shutil.which("redis-server")
        if program is None:
            message = "redis-server is not installed"
            raise SystemExit(message)
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self.redis = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        until(lambda: answers(self.redis_port), 10, "redis-server answers")

    def stop_redis(self) -> None:
        """Take the broker and store away."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
            self.redis = None

    def ready(self, name: str) -> bool:
        """Whether a service may get traffic."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.urls[name]}/health/ready", timeout=2).status_code == 200
        return False

    def said(self, name: str) -> str:
        """What a service wrote."""
        return (self._folder / f"{name}.log").read_text()

    def sign_in(self) -> dict[str, str]:
        """The headers of somebody who may ask for projects."""
        given = {"username": "ada", "password": "enigma"}
        found = httpx.post(f"{self.urls['identity_api']}/connect/token", json=given, timeout=5).raise_for_status()
        return {"Authorization": f"Bearer {found.json()['access_token']}", "X-Tenant-Id": "acme"}

    def say(self, text: str, headers: dict[str, str]) -> str:
        """The bot's answer."""
        found = httpx.post(f"{self.urls['bot_gateway']}/messages", json={"text": text}, headers=headers, timeout=10)
        return str(found.raise_for_status().json()["answer"])

    def _start(self, name: str, port: int, environment: dict[str, str]) -> None:
        folder = HERE / name
        command = [sys.executable, "worker.py"]
        if name in WEB:
            command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
        else:
            environment = {**environment, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )


def tree(trace: list[tuple[str, Any]]) -> Iterator[str]:
    """A trace as text, children below their parents."""
    known = {span.span_id for _, span in trace}

    def below(parent: bytes, depth: int) -> Iterator[str]:
        for service, span in trace:
            if span.parent_span_id == parent or (not parent and span.parent_span_id not in known):
                length = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                yield f"{'   ' * depth}{span.name:{60 - 3 * depth}}{service:18}{length:9.2f} ms"
                yield from below(span.span_id, depth + 1)

    yield from below(b"", 0)


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait for something with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def crossed(trace: list[tuple[str, Any]]) -> set[str]:
    """The services that a trace went through."""
    return {service for service, _ in trace}


def main() -> None:
    """Have a project built, and show the way of the request."""
    with Platform() as platform:
        print("bot:", platform.say("build shop", platform.sign_in()))

        def trace() -> list[tuple[str, Any]]:
            return platform.traces.with_span("audit-ingest", "process audit-events")

        until(lambda: len(crossed(trace())) >= 6, 15, "one trace crosses six services")
        print("\n".join(tree(trace())))
        for name, url in platform.urls.items():
            print(f"{name:16} {url}/health  {url}/metrics")
        if sys.stdout.isatty() and "--once" not in sys.argv:
            input("Enter stops it")


if __name__ == "__main__":
    main()
