"""The demo itself: start the service, let customers in, draw the picture, stop cleanly."""

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

_BURST = 300


def main(arguments: Sequence[str]) -> int:
    """Run the demo; exit code 0 when the service counted what the client sent."""
    parser = argparse.ArgumentParser(prog="connectsoft-obs demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help=f"{_BURST} requests, a summary, and the end")
    options = parser.parse_args(arguments)
    try:
        import httpx  # noqa: F401  asked for before anything is started
        import uvicorn  # noqa: F401
    except ImportError as error:
        print(f"the demo needs {error.name}: pip install 'connectsoft-obs[demo]'", file=sys.stderr)
        return 2
    with Demo(options.once) as demo:
        return demo.once() if options.once else demo.watch()


class Demo:
    """A service process, a collector and a client, for as long as the context lasts."""

    def __init__(self, bounded: bool) -> None:
        from connectsoft_obs.demo.collector import Collector
        from connectsoft_obs.demo.traffic import Traffic

        self._collector: Collector = Collector()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
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
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and our own module
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self._await_ready()
        self._began = time.monotonic()
        self._traffic: Traffic = Traffic(self.url, 100 if bounded else 25, _BURST if bounded else None)

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop client, service and collector, in this order."""
        self._traffic.stop()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
        self._collector.close()

    def once(self) -> int:
        """A bounded burst and its summary."""
        self._traffic.done.wait(60)
        sent = self._traffic.sent.total()
        deadline = time.monotonic() + 10
        while self._collector.spans < sent and time.monotonic() < deadline:
            time.sleep(0.05)
        print("\n".join(self._picture(6)))
        from connectsoft_obs.demo.render import routes

        counted = sum(route.requests for route in routes(self._get("/metrics").decode()).values())
        lines = sum('"logger":"connectsoft_obs.access"' in line for line in list(self._said))
        print(
            f"\nthe client sent {sent} requests; the service counted {counted:.0f}, wrote {lines} access lines "
            f"and exported {self._collector.spans} spans and {len(self._collector.metrics)} metrics"
        )
        return 0 if sent == counted == lines else 1

    def watch(self) -> int:
        """Draw the picture every second until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while self._process.poll() is None:
                clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else "\n"
                print(clear + "\n".join([*self._picture(8), "", "Ctrl-C stops it"]), flush=True)
                time.sleep(1)
        print("\nstopping")
        return 0

    def _picture(self, lines: int) -> list[str]:
        from connectsoft_obs.demo import render

        page = self._get("/metrics").decode()
        return [
            f"demo-shop on {self.url}",
            f"  health   {self.url}/health/ready   {self.url}/health/live   {self.url}/health/startup",
            f"  metrics  {self.url}/metrics        what is running  {self.url}/info",
            "",
            "METRICS (scraped from /metrics)",
            *render.table(render.routes(page), time.monotonic() - self._began),
            "",
            "TRACES (received over OTLP)",
            *render.tree(self._collector.last_trace()),
            "",
            "LOGS (standard output, one JSON object a line)",
            *render.lines(self._said, lines),
            "",
            "HEALTH (/health/ready)",
            render.health(self._get("/health/ready")),
        ]

    def _get(self, path: str) -> bytes:
        import httpx

        return httpx.get(self.url + path, timeout=5).content

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if len(self._said) > 5000:
                del self._said[:1000]

    def _await_ready(self) -> None:
        import httpx

        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready", timeout=1).status_code == 200:
                    return
            time.sleep(0.05)
        self._collector.close()
        self._process.kill()
        message = f"the demo service did not start: {''.join(self._said[-5:])}"
        raise SystemExit(message)
