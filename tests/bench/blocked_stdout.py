"""A service whose standard output is not read for ten seconds: `python tests/bench/blocked_stdout.py`.

Four clients send up to two hundred requests per second each, to a page that logs 20 lines of 400 bytes. Standard output
is a pipe that is read, then not read, then read again. For each phase the output shows requests per second, the median
and the maximum response time in milliseconds, and the requests without a response within two seconds; then how many
lines were logged, read and counted as dropped. For comparison, structlog with the set-up of its documentation, which
blocks and loses no line.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

APP = """
import structlog
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
import connectsoft_obs as obs

if {instrumented}:
    log = obs.get_logger("chatty")
else:
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory())
    log = structlog.get_logger("chatty")

async def page(request):
    for number in range(20):
        log.info("a line", number=number, text="x" * 300)
    return PlainTextResponse("logged")

app = Starlette(routes=[Route("/", page)])
if {instrumented}:
    app.add_middleware(obs.ObservabilityMiddleware, service="chatty", access_log="off")
"""
LINES_PER_REQUEST = 20


class ServiceWithReader:
    """A service and a reader of its standard output that can be paused."""

    def __init__(self, instrumented: bool, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        Path(self._folder.name, "chatty.py").write_text(APP.format(instrumented=instrumented))
        command = [sys.executable, "-m", "uvicorn", "chatty:app", "--app-dir", self._folder.name, "--port", str(port)]
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [*command, "--no-access-log"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        self.reading = threading.Event()
        self.reading.set()
        self.line_count = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.line_count += chunk.count(b"a line")
            self.reading.wait()

    def stop(self) -> None:
        """Stop the service."""
        self.reading.set()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()


def run_load(url: str, seconds: float) -> tuple[list[float], int]:
    """Send requests from four clients; return the response times and the number of failed requests."""
    durations: list[float] = []
    failures: list[str] = []
    end = time.monotonic() + seconds

    def run_client() -> None:
        with httpx.Client(timeout=2) as client:
            while time.monotonic() < end:
                started = time.monotonic()
                try:
                    client.get(url).raise_for_status()
                    durations.append(time.monotonic() - started)
                    time.sleep(0.005)
                except httpx.HTTPError as error:
                    failures.append(type(error).__name__)

    clients = [threading.Thread(target=run_client) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return durations, len(failures)


def dropped_lines(url: str) -> int:
    """The number of lines that the service has counted as dropped."""
    prefix = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="stdout_blocked"} '
    page = httpx.get(f"{url}metrics").text
    return sum(int(float(row.removeprefix(prefix))) for row in page.splitlines() if row.startswith(prefix))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    seconds = parser.parse_args().seconds
    print(f"{'':<17}{'standard output':<18}{'requests/s':>11}{'median ms':>11}{'maximum ms':>12}{'unanswered':>12}")
    for name, instrumented, port in (("connectsoft-obs", True, 8731), ("structlog", False, 8732)):
        service = ServiceWithReader(instrumented, port)
        deadline = time.monotonic() + 20
        responses = 0
        while time.monotonic() < deadline and not responses:
            time.sleep(0.1)
            responses = len(run_load(service.url, 0.05)[0])
        for phase, length in (("read", seconds / 2), ("not read", seconds), ("read again", seconds / 2)):
            service.reading.set() if phase != "not read" else service.reading.clear()
            durations, failures = run_load(service.url, length)
            median, maximum = (statistics.median(durations) * 1e3, max(durations) * 1e3) if durations else (0.0, 0.0)
            rate = len(durations) / length
            print(f"{name:<17}{phase:<18}{rate:>11.0f}{median:>11.1f}{maximum:>12.1f}{failures:>12}", flush=True)
            responses += len(durations)
        dropped = dropped_lines(service.url) if instrumented else 0
        service.stop()
        logged = responses * LINES_PER_REQUEST
        print(f"{name:<17}{logged} lines logged, {service.line_count} read, {dropped} counted as dropped")


if __name__ == "__main__":
    main()
