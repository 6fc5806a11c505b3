"""A service whose standard output nobody reads for ten seconds: run `python tests/bench/blocked_stdout.py`.

Four clients ask, each two hundred times a second at most, for pages that log 20 lines of 400 bytes. Standard output is a
pipe that is read for a while, then not at all, then again. Printed for each phase: requests answered a second, the median
and the slowest answer in milliseconds, and requests that got none within two seconds; then what became of the lines.
Beside ours, structlog as its documentation has it, which loses no line and waits.
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

if {ours}:
    log = obs.get_logger("chatty")
else:
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory())
    log = structlog.get_logger("chatty")

async def page(request):
    for number in range(20):
        log.info("a line", number=number, text="x" * 300)
    return PlainTextResponse("said")

app = Starlette(routes=[Route("/", page)])
if {ours}:
    app.add_middleware(obs.ObservabilityMiddleware, service="chatty", access_log="off")
"""


class Unread:
    """A service, and a reader of its standard output that can be told to stop reading."""

    def __init__(self, ours: bool, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        Path(self._folder.name, "chatty.py").write_text(APP.format(ours=ours))
        command = [sys.executable, "-m", "uvicorn", "chatty:app", "--app-dir", self._folder.name, "--port", str(port)]
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [*command, "--no-access-log"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ)
        )
        self.reading = threading.Event()
        self.reading.set()
        self.lines = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.lines += chunk.count(b"a line")
            self.reading.wait()

    def end(self) -> None:
        """Stop it."""
        self.reading.set()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()


def load(url: str, seconds: float) -> tuple[list[float], int]:
    """Durations of answers, and how many there were none of, from four clients."""
    took: list[float] = []
    missed: list[str] = []
    until = time.monotonic() + seconds

    def ask() -> None:
        with httpx.Client(timeout=2) as client:
            while time.monotonic() < until:
                began = time.monotonic()
                try:
                    client.get(url).raise_for_status()
                    took.append(time.monotonic() - began)
                    time.sleep(0.005)
                except httpx.HTTPError as error:
                    missed.append(type(error).__name__)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return took, len(missed)


def dropped(url: str) -> int:
    """Lines that the service itself says it dropped."""
    start = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="stdout_blocked"} '
    page = httpx.get(f"{url}metrics").text
    return sum(int(float(row.removeprefix(start))) for row in page.splitlines() if row.startswith(start))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    seconds = parser.parse_args().seconds
    print(f"{'':<12}{'standard output':<18}{'requests/s':>11}{'median ms':>11}{'slowest ms':>12}{'unanswered':>12}")
    for name, ours, port in (("ours", True, 8731), ("structlog", False, 8732)):
        service = Unread(ours, port)
        deadline = time.monotonic() + 20
        answered = 0
        while time.monotonic() < deadline and not answered:
            time.sleep(0.1)
            answered = len(load(service.url, 0.05)[0])
        for phase, length in (("read", seconds / 2), ("not read", seconds), ("read again", seconds / 2)):
            service.reading.set() if phase != "not read" else service.reading.clear()
            took, missed = load(service.url, length)
            median, slowest = (statistics.median(took) * 1e3, max(took) * 1e3) if took else (0.0, 0.0)
            rate = len(took) / length
            print(f"{name:<12}{phase:<18}{rate:>11.0f}{median:>11.1f}{slowest:>12.1f}{missed:>12}", flush=True)
            answered += len(took)
        counted = dropped(service.url) if ours else 0
        service.end()
        print(f"{name:<12}{answered * 20} lines said, {service.lines} read, {counted} counted as dropped")


if __name__ == "__main__":
    main()
