"""One variant in a process of its own: drives the application in process, a chunk whenever it is told to.

Reads commands on standard input, one a line (`run 2000`, `end`), and answers on file descriptor 3 with CPU seconds of
the loop's thread and of the whole process, and of a fixed piece of work before and after, which tells how fast the
machine was at that moment. Standard output is the application's.
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
    """What a server would make of a request."""
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
    """An empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Any) -> None:
    """Into nothing."""


def calibrate() -> float:
    """Seconds of CPU for a fixed piece of work."""
    began = time.thread_time()
    total = 0
    for number in range(30_000):
        total += len(str(number)) + number % 7
    assert total
    return time.thread_time() - began


async def chunk(app: Any, count: int) -> tuple[float, float, float]:
    """CPU seconds of this thread and of all threads for `count` requests, and the calibration around them."""
    before = calibrate()
    loop, process = time.thread_time(), time.process_time()
    for number in range(count):
        await app(scope(number % 100), receive, send)
        if not number % 50:
            await asyncio.sleep(0)  # a loop that never rests lets no other thread rest either
    # What background threads still do with this chunk belongs to it.
    loop = time.thread_time() - loop
    await asyncio.sleep(0.25)
    process = time.process_time() - process
    return loop, process, (before + calibrate()) / 2


async def main() -> None:
    """Serve commands until `end`."""
    app = build(sys.argv[1])
    answers = os.fdopen(3, "w", buffering=1)
    await chunk(app, 1500)
    gc.collect()
    gc.freeze()
    answers.write("ready\n")
    while (words := (await asyncio.to_thread(sys.stdin.readline)).split()) and words[0] == "run":
        loop, process, machine = await chunk(app, int(words[1]))
        answers.write(json.dumps({"loop": loop, "process": process, "machine": machine}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
