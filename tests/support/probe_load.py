"""Probers in a process of their own: so many probes a second for so long, and how long each answer took.

python -m support.probe_load URL PATH RATE SECONDS  prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

PACE = 100
"""Probes a second of one connection at most."""


async def prober(
    host: str, port: int, path: str, pause: float, until: float, took: list[float], codes: Counter[str]
) -> None:
    """One connection that asks at its pace; what it could not ask in time it does not catch up on."""
    reader, writer = await asyncio.open_connection(host, port)
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    due = time.perf_counter()
    while (began := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        took.append(time.perf_counter() - began)
        codes[head.split()[1].decode()] += 1
        due = max(due + pause, time.perf_counter() - pause)
        await asyncio.sleep(max(due - time.perf_counter(), 0))
    writer.close()


async def main() -> None:
    """Probe, and print what came of it."""
    url, path, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    parts = urlsplit(url)
    number = max(int(rate / PACE), 1)
    took: list[float] = []
    codes: Counter[str] = Counter()
    began = time.perf_counter()
    until = began + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(prober(parts.hostname or "", parts.port or 80, path, number / rate, until, took, codes))
            await asyncio.sleep(1 / rate)
    quantiles = statistics.quantiles(took, n=1000)
    result = {
        "probes": len(took),
        "rate": len(took) / (time.perf_counter() - began),
        "p50": quantiles[499],
        "p99": quantiles[989],
        "max": max(took),
        "codes": codes,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
