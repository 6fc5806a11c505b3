"""The process of one variant: calls the application without a server, a batch of requests per command.

Reads commands from standard input, one per line (`run 2000`, `end`), and writes results to file descriptor 3: CPU
seconds of the event loop's thread and of the process, and CPU seconds of a fixed calibration loop before and after,
which show how fast the machine was at that moment. Standard output belongs to the application.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

from variants import build

HEADERS = [
    (b"host", b"api.example:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
]


def scope(number: int) -> dict[str, Any]:
    """The ASGI scope of a request, as a server creates it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/items/{number}",
        "raw_path": b"/items/%d" % number,
        "query_string": b"",
        "root_path": "",
        "headers": list(HEADERS),
        "client": ("10.1.2.3", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def receive() -> dict[str, Any]:
    """Return an empty request body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Any) -> None:
    """Discard a message."""


def calibrate() -> float:
    """CPU seconds of a fixed amount of work."""
    started = time.thread_time()
    total = 0
    for number in range(30_000):
        total += len(str(number)) + number % 7
    assert total
    return time.thread_time() - started


async def run_batch(app: Any, count: int) -> tuple[float, float, float]:
    """CPU seconds of this thread and of all threads for `count` requests, and of the calibration around them."""
    before = calibrate()
    loop, process = time.thread_time(), time.process_time()
    for number in range(count):
        await app(scope(number % 100), receive, send)
        if not number % 50:
            await asyncio.sleep(0)  # lets other threads run
    loop = time.thread_time() - loop
    await asyncio.sleep(0.25)  # the work of background threads for this batch is part of its cost
    process = time.process_time() - process
    return loop, process, (before + calibrate()) / 2


async def main() -> None:
    """Execute commands until `end`."""
    app = build(sys.argv[1])
    results = os.fdopen(3, "w", buffering=1)
    await run_batch(app, 1500)
    gc.collect()
    gc.freeze()
    results.write("ready\n")
    while (words := (await asyncio.to_thread(sys.stdin.readline)).split()) and words[0] == "run":
        loop, process, machine = await run_batch(app, int(words[1]))
        results.write(json.dumps({"loop": loop, "process": process, "machine": machine}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
