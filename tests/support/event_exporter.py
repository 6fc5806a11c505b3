"""A process with SLO events: the history of its counters, and an endpoint from which Prometheus scrapes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP = 5
"""Seconds between the values of a counter."""

EventCounts = Callable[[float], tuple[float, float] | None]
"""Good and bad events since the start of the process at a Unix time; None while the process does not run."""


def constant_rate(
    start: float, rate: float, *, failing_since: float = float("inf"), restarted_at: float = float("inf")
) -> EventCounts:
    """Return the counters of a process that fails all events from a time on, and starts again at zero at another."""

    def counts_at(at: float) -> tuple[float, float] | None:
        if at < start:
            return None
        begin = restarted_at if at >= restarted_at else start
        bad = rate * max(0.0, at - max(failing_since, begin))
        return rate * (at - begin) - bad, bad

    return counts_at


def counter_history(counts: Mapping[str, EventCounts], labels: str, start: float, end: float) -> Iterator[str]:
    """Yield the samples of the counters in the OpenMetrics format."""
    yield "# TYPE connectsoft_slo_events counter"
    for name, counts_at in counts.items():
        for outcome, index in (("good", 0), ("bad", 1)):
            for at in range(int(start), int(end), STEP):
                if (values := counts_at(at)) is not None:
                    series = f'{{{labels},connectsoft_slo_name="{name}",connectsoft_slo_outcome="{outcome}"}}'
                    yield f"connectsoft_slo_events_total{series} {values[index]!r} {at}"


@contextmanager
def event_exporter(counts: Mapping[str, EventCounts]) -> Iterator[str]:
    """Serve the counters at the current time, and yield the address to scrape."""

    class MetricsHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = time.time()
            lines = ["# TYPE connectsoft_slo_events_total counter"]
            for name, counts_at in counts.items():
                for outcome, value in zip(("good", "bad"), counts_at(now) or (), strict=False):
                    series = f'{{connectsoft_slo_name="{name}",connectsoft_slo_outcome="{outcome}"}}'
                    lines.append(f"connectsoft_slo_events_total{series} {value!r}")
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(("\n".join(lines) + "\n").encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), MetricsHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
