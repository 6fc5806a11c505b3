"""The exporter under fire, fault by fault: what requests notice, what is lost, how it recovers and how it stops.

python tests/bench/fire.py [--seconds 4] [--rounds 2] [--rate 150] [--peer] [--only "FAULT|FAULT"]

One uvicorn a round and fault, a client at a constant rate, and a collector that misbehaves over real sockets. A healthy
collector is measured in between, in the same round, so that the machine's moods are in both columns. Every
span has to be accounted for: delivered, or counted as dropped; the rest is lost. `--peer` puts
OpenTelemetry's own FastAPI-style set-up (instrumentation, SDK, OTLP exporter) into the same harness, traces only.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import httpx
from support.faulty import Faulty
from support.process import Service, free_port
from support.watching import percentile

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
    dropped: int = 0
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)

    def row(self, name: str, healthy: Result) -> str:
        """A line of the table; times against the healthy runs of the same rounds."""
        p50, p99 = statistics.median(self.p50), statistics.median(self.p99)
        base50, base99 = statistics.median(healthy.p50), statistics.median(healthy.p99)
        spread = f"{min(healthy.p99):.1f}-{max(healthy.p99):.1f}"
        recovery = f"{statistics.median(self.recovery):.1f} s" if self.recovery else "-"
        lost = self.sent - self.delivered - self.dropped
        return (
            f"| {name} | {self.served} | {self.failed} | {p50:.2f} / {base50:.2f} | {p99:.1f} / {base99:.1f} ({spread}) | "
            f"{self.dropped} | {lost} | {recovery} | {max(self.stop):.1f} s |"
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
        app = "watched_peer:app" if peer else "watched:app"
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

    def go(self, result: Result, seconds: float, rate: float) -> None:
        """Requests under the fault; then the collector works again; then a stop under the fault."""
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
            if self.mode not in ("tls", "dns", "ok"):
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
        self.collector.set("ok")
        while time.monotonic() < began + 60:
            if len(self.collector.received.spans) > before:
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
        names = [span.name for span in self.collector.received.spans]
        result.sent += 2 * requests + self.looks  # the server's span and the job's; a look has no job
        result.delivered += len(names)
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
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=150.0)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or name in options.only.split("|")]
    results: dict[str, tuple[Result, Result]] = {name: (Result(), Result()) for name in chosen}
    overall = Result()
    for _ in range(options.rounds):
        for name in chosen:
            Run(HEALTHY, options.peer).go(results[name][1], options.seconds, options.rate)
            Run(name, options.peer).go(results[name][0], options.seconds, options.rate)
    for _, healthy in results.values():
        for part in ("p50", "p99", "stop"):
            getattr(overall, part).extend(getattr(healthy, part))
        for part in ("served", "failed", "sent", "delivered", "dropped"):
            setattr(overall, part, getattr(overall, part) + getattr(healthy, part))
    print(
        "| collector | served | failed | p50 ms / healthy | p99 ms / healthy (spread) | dropped, counted | lost | recovery | stop |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(overall.row(HEALTHY, overall))
    for name, (result, _) in results.items():
        print(result.row(name, overall), flush=True)


if __name__ == "__main__":
    main()
