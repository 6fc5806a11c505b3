"""Starts the demo service, sends requests to it, and shows its health, metrics, logs and traces."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectsoft_obs.demo.collector import Collector
    from connectsoft_obs.demo.traffic import Traffic

_REQUEST_COUNT = 300


def main(arguments: Sequence[str]) -> int:
    """Run the demo. The exit code is 0 if the service counted and logged all requests, 1 if not, 2 without dependencies."""
    parser = argparse.ArgumentParser(prog="connectsoft-obs demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help=f"send {_REQUEST_COUNT} requests, print a summary and exit")
    options = parser.parse_args(arguments)
    try:
        import httpx  # noqa: F401  fail before any process is started
        import uvicorn  # noqa: F401
    except ImportError as error:
        print(f"the demo needs {error.name}: pip install 'connectsoft-obs[demo]'", file=sys.stderr)
        return 2
    with Demo(options.once) as demo:
        return demo.run_once() if options.once else demo.run_until_interrupted()


class Demo:
    """A context manager that runs a service process, a collector and a client.

    Args:
        bounded: whether the client stops after a fixed number of requests.

    Raises:
        SystemExit: the service did not become ready.
    """

    def __init__(self, bounded: bool) -> None:
        from connectsoft_obs.demo.collector import Collector
        from connectsoft_obs.demo.traffic import Traffic

        self._collector: Collector = Collector()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url: str = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._collector.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "CONNECTSOFT_OBS_LOG_PROFILE": "otel",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "uvicorn", "connectsoft_obs.demo.service:app", "--port", str(port)]
        self._process = subprocess.Popen(  # noqa: S603  runs a module of this package
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._output_lines: list[str] = []
        threading.Thread(target=self._read_output, daemon=True).start()
        self._wait_until_ready()
        self._start_time = time.monotonic()
        self._traffic: Traffic = Traffic(self.url, 100 if bounded else 25, _REQUEST_COUNT if bounded else None)

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the client, the service and the collector, in this order."""
        self._traffic.stop()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
        self._collector.close()

    def run_once(self) -> int:
        """Wait for a fixed number of requests and print a summary; returns the exit code.

        A request without a response, for example because the machine is overloaded, may have been counted or not.
        """
        self._traffic.finished.wait(60)
        responses = self._traffic.responses
        sent = responses.total()
        answered = sent - sum(number for (_, status), number in responses.items() if not status)
        deadline = time.monotonic() + 10
        while min(self._collector.span_count, self._access_lines()) < answered and time.monotonic() < deadline:
            time.sleep(0.05)
        print("\n".join(self._render(6)))
        from connectsoft_obs.demo.render import parse_routes

        counted = sum(route.requests for route in parse_routes(self._get("/metrics").decode()).values())
        access_lines = self._access_lines()
        unanswered = f" ({sent - answered} without a response)" if answered < sent else ""
        print(
            f"\nthe client sent {sent} requests{unanswered}; the service counted {counted:.0f}, wrote {access_lines} access "
            f"log lines and exported {self._collector.span_count} spans and {len(self._collector.metric_names)} metrics"
        )
        return 0 if answered <= counted == access_lines <= sent else 1

    def _access_lines(self) -> int:
        return sum('"logger":"connectsoft_obs.access"' in line for line in list(self._output_lines))

    def run_until_interrupted(self) -> int:
        """Show the telemetry every second until Ctrl-C; returns the exit code."""
        with contextlib.suppress(KeyboardInterrupt):
            while self._process.poll() is None:
                clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else "\n"
                print(clear + "\n".join([*self._render(8), "", "press Ctrl-C to stop"]), flush=True)
                time.sleep(1)
        print("\nstopping")
        return 0

    def _render(self, max_log_lines: int) -> list[str]:
        from connectsoft_obs.demo import render

        page = self._get("/metrics").decode()
        return [
            f"demo-shop on {self.url}",
            f"  health   {self.url}/health/ready   {self.url}/health/live   {self.url}/health/startup",
            f"  metrics  {self.url}/metrics        info  {self.url}/info",
            "",
            "METRICS (scraped from /metrics)",
            *render.format_routes(render.parse_routes(page), time.monotonic() - self._start_time),
            "",
            "TRACES (received over OTLP)",
            *render.format_trace(self._collector.largest_trace()),
            "",
            "LOGS (standard output, one JSON object per line)",
            *render.format_last_lines(self._output_lines, max_log_lines),
            "",
            "HEALTH (/health/ready)",
            render.format_health(self._get("/health/ready")),
        ]

    def _get(self, path: str) -> bytes:
        import httpx

        return httpx.get(self.url + path, timeout=5).content

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output_lines.append(line)
            if len(self._output_lines) > 5000:
                del self._output_lines[:1000]

    def _wait_until_ready(self) -> None:
        import httpx

        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready", timeout=1).status_code == 200:
                    return
            time.sleep(0.05)
        self._collector.close()
        self._process.kill()
        message = f"the demo service did not become ready: {''.join(self._output_lines[-5:])}"
        raise SystemExit(message)
