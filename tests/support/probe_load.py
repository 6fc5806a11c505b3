"""Generates probe load from a process of its own and measures the response times.

`python -m support.probe_load URL PATH RATE SECONDS` sends RATE probes a second and prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

MAX_RATE_PER_CONNECTION = 100
"""Probes a second."""


async def probe_repeatedly(
    host: str, port: int, path: str, interval: float, end: float, durations: list[float], codes: Counter[str]
) -> None:
    """Send probes over one connection at an interval; probes that could not be sent in time are skipped."""
    reader, writer = await asyncio.open_connection(host, port)
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    due = time.perf_counter()
    while (started := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        durations.append(time.perf_counter() - started)
        codes[head.split()[1].decode()] += 1
        due = max(due + interval, time.perf_counter() - interval)
        await asyncio.sleep(max(due - time.perf_counter(), 0))
    writer.close()


async def main() -> None:
    """Send the probes and print the result."""
    url, path, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    connections = max(int(rate / MAX_RATE_PER_CONNECTION), 1)
    durations: list[float] = []
    codes: Counter[str] = Counter()
    started = time.perf_counter()
    end = started + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(probe_repeatedly(host, port, path, connections / rate, end, durations, codes))
            await asyncio.sleep(1 / rate)
    quantiles = statistics.quantiles(durations, n=1000)
    result = {
        "probes": len(durations),
        "rate": len(durations) / (time.perf_counter() - started),
        "p50": quantiles[499],
        "p99": quantiles[989],
        "max": max(durations),
        "codes": codes,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
