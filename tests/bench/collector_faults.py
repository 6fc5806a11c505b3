"""Behaviour of the exporter while a collector fails: latency of requests, loss, recovery and shutdown time, by fault.

python tests/bench/collector_faults.py [--seconds 2] [--rounds 5] [--rate 200] [--peer] [--only "FAULT|FAULT"]

Each run uses one uvicorn, a client at a constant rate, and a collector that fails over real sockets. In each round a
healthy collector and all faults take turns, in a new random order, so that changes of the machine affect all of them. A
fault passes if its p99 (median of the rounds) is at most 5 % above that of the healthy collector, or within the spread
of the healthy runs. Every span is accounted for by its id: it was delivered or counted as dropped; the others are lost.
If the response to a batch was never received, the collector may have stored the batch nevertheless: it is sent again and
arrives twice, or it is counted as dropped although it arrived. `--peer` measures OpenTelemetry's set-up
(instrumentation, SDK, OTLP exporter) in the same way, for traces only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import httpx
from support.certificates import self_signed_certificate
from support.faulty_collector import FaultyCollector
from support.process import Service, free_port
from support.process_stats import percentile

APPS = Path(__file__).parent.parent / "apps"
HEALTHY = "healthy"
FAULTS = {
    "stopped": "refuse", "accepts, never answers": "hang", "429, Retry-After 1": "429:1", "503, Retry-After 1": "503:1",
    "503": "503", "400": "400", "413": "413", "answers garbage": "garbage", "closes in mid-response": "cut", "resets": "reset",
    "slow by 10 s": "slow:10", "name does not resolve": "dns", "started late": "late", "401": "401", "404": "404",
    "redirects": "307@http://127.0.0.1:9/v1/traces", "TLS spoken to plain HTTP": "tls", "plain HTTP spoken to TLS": "plain",
    "certificate does not verify": "certificate",
}  # fmt: skip


@dataclass
class Result:
    """Totals and samples of one fault over all rounds."""

    succeeded: int = 0
    failed: int = 0
    sent: int = 0
    delivered: int = 0
    duplicates: int = 0
    dropped: int = 0
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    shutdown: list[float] = field(default_factory=list)

    def table_row(self, name: str, healthy: Result) -> str:
        """A row of the table; latency is compared with the healthy runs of the same rounds."""
        p50, p99 = statistics.median(self.p50), statistics.median(self.p99)
        base50, base99 = statistics.median(healthy.p50), statistics.median(healthy.p99)
        within = "yes" if p99 <= max(1.05 * base99, *healthy.p99) else "no"
        recovery = f"{statistics.median(self.recovery):.1f} s" if self.recovery else "-"
        missing = self.sent - self.delivered - self.dropped
        return (
            f"| {name} | {self.succeeded} | {self.failed} | {p50:.2f} ({p50 / base50:.2f}x) | {p99:.1f} ({p99 / base99:.2f}x) | "
            f"{within} | {self.dropped} | {max(missing, 0)} | {self.duplicates} | {max(-missing, 0)} | {recovery} | "
            f"{max(self.shutdown):.1f} s |"
        )


async def send_requests(url: str, seconds: float, rate: float) -> tuple[list[float], int]:
    """Send requests at a constant rate, independently of responses; return latencies in ms and the failures."""
    latencies: list[float] = []
    failures = 0

    async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=20)) as client:

        async def send_request(number: int) -> None:
            nonlocal failures
            started = time.perf_counter()
            try:
                failures += (await client.get(f"/items/{number}")).status_code != 200
            except httpx.HTTPError:
                failures += 1
            latencies.append((time.perf_counter() - started) * 1000)

        started, tasks = time.perf_counter(), []
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(send_request(number)))
        await asyncio.gather(*tasks)
    return latencies, failures


class FaultRun:
    """One run of a service with a collector that has one fault."""

    def __init__(self, fault: str, peer: bool) -> None:
        self.mode = FAULTS.get(fault, "ok")
        self.is_permanent = self.mode in ("tls", "dns", "plain", "certificate")
        self.collector = FaultyCollector(
            "refuse" if self.mode == "late" else "ok" if self.is_permanent else self.mode,
            certificate=_certificate() if self.mode in ("plain", "certificate") else None,
        )
        self.internals_requests = 0
        url = self.collector.url
        if self.mode == "tls":
            url = url.replace("http", "https")
        elif self.mode == "plain":
            url = url.replace("https", "http")
        elif self.mode == "dns":
            url = "http://collector.invalid:4318"
        port = free_port()
        app = "four_signals_peer:app" if peer else "four_signals:app"
        command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port), "--no-access-log"]
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        self.service = Service(command, port, environment)

    def execute(self, result: Result, seconds: float, rate: float, measure_recovery: bool) -> None:
        """Send requests during the fault, optionally measure the recovery, and stop the service during the fault."""
        with self.collector, self.service as service:
            service.wait_until_ready("/internals")
            self.internals_requests = 1
            asyncio.run(send_requests(service.url, 1, rate))  # warm-up
            latencies, failures = asyncio.run(send_requests(service.url, seconds, rate))
            result.succeeded += len(latencies) - failures
            result.failed += failures
            result.p50.append(percentile(latencies, 50))
            result.p99.append(percentile(latencies, 99))
            requests = int(rate) + len(latencies)
            if measure_recovery and self.mode != "ok" and not self.is_permanent:
                result.recovery += self.recovery_seconds()
                self.collector.set_mode("ok" if self.mode == "late" else self.mode)
            latencies, _ = asyncio.run(send_requests(service.url, 0.5, rate))
            requests += len(latencies)
            dropped = self.dropped_items()
            started = time.monotonic()
            service.stop(seconds=120)
            result.shutdown.append(time.monotonic() - started)
            self.account_for_spans(result, requests, dropped)

    def recovery_seconds(self) -> list[float]:
        """Seconds from the collector's recovery until it receives spans again; empty if it does not within 60 s."""
        spans, started = len(self.collector.received.spans), time.monotonic()
        request_count = self.collector.request_count
        self.collector.set_mode("ok")
        while time.monotonic() < started + 60:
            # A delayed request of before may complete now; only a new request shows the recovery.
            if self.collector.request_count > request_count and len(self.collector.received.spans) > spans:
                return [time.monotonic() - started]
            self.dropped_items()  # creates a span, without which there may be nothing left to export
            time.sleep(0.05)
        return []

    def dropped_items(self) -> dict[str, float]:
        """The dropped items by signal and reason, as counted by the service; this request creates one span itself."""
        self.internals_requests += 1
        dropped: dict[str, float] = httpx.get(f"{self.service.url}/internals").json()["dropped"]
        return dropped

    def account_for_spans(self, result: Result, requests: int, dropped: dict[str, float]) -> None:
        """Add the spans of the requests: sent, delivered, delivered twice, and counted as dropped."""
        ids = [(span.trace_id, span.span_id) for span in self.collector.received.spans]
        result.sent += 2 * requests + self.internals_requests  # a server span and a job span; /internals has no job
        result.delivered += len({*ids})
        result.duplicates += len(ids) - len({*ids})
        result.dropped += dropped_spans(self.service, dropped)


@cache
def _certificate() -> Path:
    """A file with the certificate and key of a server, which no client trusts."""
    return self_signed_certificate(Path(mkdtemp()), 1)


def dropped_spans(service: Service, dropped: dict[str, float]) -> int:
    """The dropped spans from the final report of the service, or from the last request if there is no report."""
    reports = [line for line in service.json_lines if line.get("message") == "final drop count"]
    if reports:
        return int(reports[-1]["spans_dropped"])
    return round(sum(count for key, count in dropped.items() if key.startswith("traces/")))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    started = time.monotonic()
    names = [HEALTHY, *[name for name in FAULTS if not options.only or name in options.only.split("|")]]
    results = {name: Result() for name in names}
    for number in range(options.rounds):
        for name in random.sample(names, len(names)):
            FaultRun(name, options.peer).execute(results[name], options.seconds, options.rate, number == 0)
        print(f"round {number + 1} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    healthy = results[HEALTHY]
    columns = (
        "collector", "served", "failed", "p50 ms", "p99 ms", "within", "dropped, counted", "lost", "arrived twice",
        "dropped, yet arrived", "recovery", "stop",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for name in names:
        print(results[name].table_row(name, healthy), flush=True)
    print(f"\nhealthy p99, {options.rounds} runs: {', '.join(f'{value:.1f}' for value in sorted(healthy.p99))} ms")


if __name__ == "__main__":
    main()
