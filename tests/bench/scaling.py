"""Whether the cost stays what it is: more routes, more requests at once, longer responses, more series.

    python tests/bench/scaling.py [--rounds 7]

Each figure is the CPU time (all threads of the process) that observing adds to one request, or to one chunk or message,
over that of the same application without it, in the same round, both divided by how long the machine took for a fixed
piece of work at that moment. Printed in units of what observing adds to a request of the smallest form in that row: 1.0
everywhere means that nothing grows. Chunks and messages are also put beside what the bare application spends on one, and
beside a peer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

REQUESTS = 400
PEER = "contrib ASGI, traces, not exported"
Drive = Callable[[Any, int], Awaitable[None]]


def routes(count: int, by: str) -> Any:
    """Asks the first of so many routes, so that the framework's own matching stays the same."""
    return _application(count, by, 0)


def concurrent(count: int, by: str) -> Any:
    """So many requests are in flight at once."""
    return _application(20, by, 0)


def chunks(count: int, by: str) -> Any:
    """A response of so many pieces."""
    return _application(20, by, count)


def series(count: int, by: str) -> Any:
    """The process holds so many series of the request duration already."""
    app = _application(20, by, 0)
    if by == "ours":
        import connectsoft_obs as obs
        from connectsoft_obs.vocabulary import REQUEST_DURATION

        family = obs.configure(service="bench", instrumentations="none").metrics.family(REQUEST_DURATION)
        blank = [""] * (len(family.metric.labels) - 1)
        for number in range(count // 15):  # a histogram is fifteen lines of a page
            family.histogram(*blank, f"/filler/{number}").observe(0.01)
    return app


def _application(count: int, by: str, pieces: int) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Any) -> Any:
        if not pieces:
            return JSONResponse({"id": 1})
        return _Pieces()

    class _Pieces:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(pieces):
                await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return observed(Starlette(routes=[Route(f"/items{number}/{{id}}", item) for number in range(count)]), by)


def observed(app: Any, by: str) -> Any:
    """The application with what observes it, if anything."""
    if by == "ours":
        import connectsoft_obs as obs

        if hasattr(app, "add_middleware"):
            app.add_middleware(obs.ObservabilityMiddleware, service="bench", instrumentations="none")
            return app
        return obs.ObservabilityMiddleware(app, service="bench", instrumentations="none")
    if by == PEER:
        from opentelemetry import trace
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
        return OpenTelemetryMiddleware(app)
    return app


def websocket(count: int, by: str) -> Any:
    """A conversation of so many messages each way."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(count):
            await receive()
            await send({"type": "websocket.send", "text": "pong"})
        await send({"type": "websocket.close"})

    return observed(app, by)


KINDS: dict[str, tuple[Callable[[int, str], Any], tuple[int, ...], bool]] = {
    # name: (application, sizes, whether the cost is divided by the size)
    "routes": (routes, (20, 200, 2000), False),
    "requests at once": (concurrent, (1, 10, 100, 1000), False),
    "chunks a response, cost of each": (chunks, (1, 10, 100, 1000), True),
    "series in the process": (series, (100, 2000, 20000), False),
    "messages of a WebSocket each way, cost of each": (websocket, (1, 10, 100, 1000), True),
}

PIECES = {
    "a chunk of 1,000": "chunks a response, cost of each",
    "a message of 1,000 each way": "messages of a WebSocket each way, cost of each",
}
Costs: TypeAlias = dict[tuple[int, str], list[float]]


def scope(kind: str, number: int) -> dict[str, Any]:
    """What a server would make of a request."""
    common = {
        "asgi": {"version": "3.0"}, "http_version": "1.1", "path": f"/items0/{number}", "query_string": b"",
        "root_path": "", "headers": [(b"host", b"api.example")], "client": ("10.1.2.3", 50000),
        "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    if kind.startswith("messages"):
        return {"type": "websocket", "scheme": "ws", "subprotocols": [], **common}
    return {"type": "http", "method": "GET", "scheme": "http", **common}


async def one(app: Any, kind: str, number: int, gate: asyncio.Event | None) -> None:
    """One request or conversation; with a gate, its response waits until all of them have begun."""
    messages = iter([{"type": "websocket.connect"}] if kind.startswith("messages") else [{"type": "http.request"}])
    again = {"type": "websocket.receive", "text": "ping"}

    async def receive() -> dict[str, Any]:
        return next(messages, again)

    async def send(message: Any) -> None:
        if gate is not None and message["type"] == "http.response.start":
            await gate.wait()

    await app(scope(kind, number % 100), receive, send)


async def batch(app: Any, kind: str, count: int, at_once: int) -> None:
    """So many requests, so many of them at once."""
    for first in range(0, count, at_once):
        if at_once == 1:
            await one(app, kind, first, None)
            continue
        gate = asyncio.Event()
        tasks = [asyncio.create_task(one(app, kind, first + number, gate)) for number in range(at_once)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)


def calibrate() -> float:
    """Seconds of CPU for a fixed piece of work."""
    began, total = time.thread_time(), 0
    for number in range(30_000):
        total += len(str(number)) + number % 7
    assert total
    return time.thread_time() - began


async def child(kind: str, size: int, by: str) -> None:
    """Answer each line on standard input with the cost of a batch, in pieces of fixed work; logs go to standard error."""
    build, _, divided = KINDS[kind]
    app = build(size, by)
    count = max(20, REQUESTS // size) if divided else max(REQUESTS, size)
    at_once = size if kind == "requests at once" else 1
    await batch(app, kind, count, at_once)
    answers = sys.__stderr__
    assert answers is not None
    while await asyncio.to_thread(sys.stdin.readline):
        before, began = calibrate(), time.process_time()
        await batch(app, kind, count, at_once)
        spent = time.process_time() - began
        machine = (before + calibrate()) / 2
        print(json.dumps(spent / count / (size if divided else 1) / machine), file=answers, flush=True)


class Child:
    """One application in a process of its own."""

    def __init__(self, kind: str, size: int, by: str) -> None:
        command = [sys.executable, __file__, "--child", kind, str(size), by]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def cost(self) -> float:
        """Of one request, chunk or message."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        answer: float = json.loads(self._process.stderr.readline())
        return answer

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.communicate()


def costs(kind: str, sizes: tuple[int, ...], observers: tuple[str, ...], rounds: int) -> Costs:
    """By size and observer: the cost in each round; all of them take turns."""
    children = {(size, by): Child(kind, size, by) for size in sizes for by in observers}
    found: Costs = {key: [] for key in children}
    for _ in range(rounds):
        for key in random.sample(list(children), len(children)):
            found[key].append(children[key].cost())
    for one_of_them in children.values():
        one_of_them.end()
    return found


def added(found: Costs, size: int, by: str) -> float:
    """What an observer adds, over what nobody costs."""
    return statistics.median(own - bare for own, bare in zip(found[size, by], found[size, ""], strict=True))


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """By what grows and by its size: the cost in multiples of that of the smallest size."""
    found = {}
    for kind in KINDS:
        sizes = KINDS[kind][1]
        seen = costs(kind, sizes, ("", "ours"), rounds)
        least = added(seen, min(sizes), "ours")
        found[kind] = {str(size): added(seen, size, "ours") / least for size in sizes}
    return found


def pieces(rounds: int) -> dict[str, dict[str, float]]:
    """What a chunk of a long response and a message of a long conversation cost more, over the bare application's."""
    found = {}
    for name, kind in PIECES.items():
        seen = costs(kind, (1000,), ("", "ours", PEER), rounds)
        bare = statistics.median(seen[1000, ""])
        found[name] = {by: added(seen, 1000, by) / bare for by in ("ours", PEER)}
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures as text."""
    rows = []
    for kind, figures in found.items():
        rows.append(f"{kind:<48}" + "".join(f"{size:>8}: {cost:4.2f}" for size, cost in figures.items()))
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        asyncio.run(child(options.child[0], int(options.child[1]), options.child[2]))
        return
    print(table(measure(options.rounds)))
    for name, row in pieces(options.rounds).items():
        print(f"{name:<48}" + "".join(f"{by}: {share:.2f} of bare's   " for by, share in row.items()))


if __name__ == "__main__":
    main()
