"""The exporter under fire, fault by fault: what requests notice, what is lost, how it recovers and how it stops.

python tests/bench/collector_faults.py [--seconds 2] [--rounds 5] [--rate 200] [--peer] [--only "FAULT|FAULT"]

One uvicorn a round and fault, a client at a constant rate, and a collector that misbehaves over real sockets. In each
round a healthy collector and all faults take turns, in a new order, so that the machine's moods are in all of them; a
fault passes when its p99 (median of the rounds) is at most 5 % above the healthy one's, or within the spread of the
healthy runs. Every span has to be accounted for, by its id: delivered, or counted as dropped; the rest is lost. A batch
whose answer never came may have been kept all the same: it is sent again and arrives twice, or is counted as dropped
and has arrived. `--peer` puts OpenTelemetry's own set-up (instrumentation, SDK, OTLP exporter) into the same harness,
traces only.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import httpx
from support.faulty_collector import Faulty
from support.process import Service, free_port
from support.process_stats import percentile

APPS = Path(__file__).parent.parent / "apps"
HEALTHY = "healthy"
FAULTS = {
    "stopped": "refuse", "accepts, never answers": "hang", "429, Retry-After 1": "429:1", "503, Retry-After 1": "503:1",
    "503": "503", "400": "400", "413": "413", "answers garbage": "garbage", "closes in mid-response": "cut", "resets": "reset",
    "slow by 10 s": "slow:10", "TLS spoken to plain HTTP": "tls", "name does not resolve": "dns", "started late": "late",
}  # fmt: skip


@dataclass
class Result:
    """What one fault did, over all rounds."""

    served: int = 0
    failed: int = 0
    sent: int = 0
    delivered: int = 0
    twice: int = 0
    dropped: int = 0
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)

    def row(self, name: str, healthy: Result) -> str:
        """A line of the table; times against the healthy runs of the same rounds."""
        p50, p99 = statistics.median(self.p50), statistics.median(self.p99)
        base50, base99 = statistics.median(healthy.p50), statistics.median(healthy.p99)
        within = "yes" if p99 <= max(1.05 * base99, *healthy.p99) else "no"
        recovery = f"{statistics.median(self.recovery):.1f} s" if self.recovery else "-"
        missing = self.sent - self.delivered - self.dropped
        return (
            f"| {name} | {self.served} | {self.failed} | {p50:.2f} ({p50 / base50:.2f}x) | {p99:.1f} ({p99 / base99:.2f}x) | "
            f"{within} | {self.dropped} | {max(missing, 0)} | {self.twice} | {max(-missing, 0)} | {recovery} | "
            f"{max(self.stop):.1f} s |"
        )


async def load(url: str, seconds: float, rate: float) -> tuple[list[float], int]:
    """Requests at a constant rate, whatever becomes of those before; their milliseconds, and how many failed."""
    took: list[float] = []
    failed = 0

    async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=20)) as client:

        async def one(number: int) -> None:
            nonlocal failed
            began = time.perf_counter()
            try:
                failed += (await client.get(f"/items/{number}")).status_code != 200
            except httpx.HTTPError:
                failed += 1
            took.append((time.perf_counter() - began) * 1000)

        began, tasks = time.perf_counter(), []
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number)))
        await asyncio.gather(*tasks)
    return took, failed


class Run:
    """One process against one collector."""

    def __init__(self, fault: str, peer: bool) -> None:
        self.fault, self.mode, self.peer = fault, FAULTS.get(fault, "ok"), peer
        self.collector = Faulty(
            "refuse" if self.mode == "late" else self.mode if self.mode not in ("tls", "dns") else "ok"
        )
        self.looks = 0
        url = self.collector.url
        if self.mode == "tls":
            url = url.replace("http", "https")
        elif self.mode == "dns":
            url = "http://collector.invalid:4318"
        port = free_port()
        app = "four_signals_peer:app" if peer else "four_signals:app"
        command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port), "--no-access-log"]
        self.service = Service(
            command,
            port,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_METRIC_EXPORT_INTERVAL": "2000",
                "OTEL_BSP_SCHEDULE_DELAY": "500",
            },
        )

    def go(self, result: Result, seconds: float, rate: float, recover: bool) -> None:
        """Requests under the fault; then, if asked for, the collector works again; then a stop under the fault."""
        with self.collector, self.service as service:
            service.ready("/inside")
            self.looks = 1
            asyncio.run(load(service.url, 1, rate))
            took, failed = asyncio.run(load(service.url, seconds, rate))
            result.served += len(took) - failed
            result.failed += failed
            result.p50.append(percentile(took, 50))
            result.p99.append(percentile(took, 99))
            requests = int(rate) + len(took)
            if recover and self.mode not in ("tls", "dns", "ok"):
                result.recovery += self.recovered()
                self.collector.set("ok" if self.mode == "late" else self.mode)
            more, _ = asyncio.run(load(service.url, 0.5, rate))
            requests += len(more)
            seen = self.look()
            began = time.monotonic()
            service.stop(seconds=120)
            result.stop.append(time.monotonic() - began)
            self.account(result, requests, seen)

    def recovered(self) -> list[float]:
        """Seconds from the collector's recovery until it has spans again."""
        before, began = len(self.collector.received.spans), time.monotonic()
        attempts = self.collector.attempts
        self.collector.set("ok")
        while time.monotonic() < began + 60:
            # What it had been slow to take it takes now; only what is sent from here on shows recovery.
            if self.collector.attempts > attempts and len(self.collector.received.spans) > before:
                return [time.monotonic() - began]
            # A batch needs something to be in it: where what failed was dropped, only new spans show recovery.
            self.look()
            time.sleep(0.05)
        return []

    def look(self) -> dict[str, float]:
        """What the process has counted as dropped; a request with one span itself."""
        self.looks += 1
        dropped: dict[str, float] = httpx.get(f"{self.service.url}/inside").json()["dropped"]
        return dropped

    def account(self, result: Result, requests: int, seen: dict[str, float]) -> None:
        """Spans of requests: delivered, or counted as dropped until the stop and in the last line of the process."""
        arrived = [(span.trace_id, span.span_id) for span in self.collector.received.spans]
        result.sent += 2 * requests + self.looks  # the server's span and the job's; a look has no job
        result.delivered += len({*arrived})
        result.twice += len(arrived) - len({*arrived})
        result.dropped += dropped_in(self.service, seen)


def dropped_in(service: Service, seen: dict[str, float]) -> int:
    """Spans that the process has counted as dropped, at its very end."""
    last = [line for line in service.lines if line.get("message") == "final account"]
    return (
        round(last[-1]["spans_dropped"])
        if last
        else round(sum(n for key, n in seen.items() if key.startswith("traces/")))
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    began = time.monotonic()
    names = [HEALTHY, *[name for name in FAULTS if not options.only or name in options.only.split("|")]]
    results = {name: Result() for name in names}
    for number in range(options.rounds):
        for name in random.sample(names, len(names)):
            Run(name, options.peer).go(results[name], options.seconds, options.rate, number == 0)
        print(f"round {number + 1} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    healthy = results[HEALTHY]
    columns = (
        "collector", "served", "failed", "p50 ms", "p99 ms", "within", "dropped, counted", "lost", "arrived twice",
        "dropped, yet arrived", "recovery", "stop",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for name in names:
        print(results[name].row(name, healthy), flush=True)
    print(f"\nhealthy p99, {options.rounds} runs: {', '.join(f'{one:.1f}' for one in sorted(healthy.p99))} ms")


if __name__ == "__main__":
    main()
