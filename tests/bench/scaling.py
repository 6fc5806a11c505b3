"""Whether the cost per request stays constant with more routes, concurrent requests, response chunks and series.

    python tests/bench/scaling.py [--rounds 7]

A figure is the CPU time (all threads of the process) that the middleware adds to one request, chunk or message, compared
with the same application without it in the same round, both divided by the CPU time of a fixed calibration loop at that
moment. It is printed as a multiple of the figure at the smallest size of its row: 1.0 in all columns means no growth. The
cost of chunks and messages is also compared with that of the bare application and of OpenTelemetry's instrumentation.
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
from collections.abc import Callable
from typing import Any, TypeAlias

REQUESTS = 400
PEER = "contrib ASGI, traces, not exported"
Costs: TypeAlias = dict[tuple[int, str], list[float]]


def with_routes(count: int, observer: str) -> Any:
    """An application with `count` routes; requests go to the first one, so that routing costs the same."""
    return _create_app(count, observer, 0)


def with_concurrent_requests(count: int, observer: str) -> Any:
    """An application for `count` concurrent requests, see `run_batch`."""
    return _create_app(20, observer, 0)


def with_chunks(count: int, observer: str) -> Any:
    """An application whose response has `count` chunks."""
    return _create_app(20, observer, count)


def with_series(count: int, observer: str) -> Any:
    """An application in a process that already has `count` series of the request duration."""
    app = _create_app(20, observer, 0)
    if observer == "connectsoft-obs":
        import connectsoft_obs as obs
        from connectsoft_obs.vocabulary import REQUEST_DURATION

        family = obs.configure(service="bench", instrumentations="none").metrics.family(REQUEST_DURATION)
        empty_labels = [""] * (len(family.metric.labels) - 1)
        for number in range(count // 15):  # a histogram has fifteen series
            family.histogram_series(*empty_labels, f"/filler/{number}").observe(0.01)
    return app


def with_messages(count: int, observer: str) -> Any:
    """A WebSocket that receives and sends `count` messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(count):
            await receive()
            await send({"type": "websocket.send", "text": "pong"})
        await send({"type": "websocket.close"})

    return instrument(app, observer)


def _create_app(routes: int, observer: str, chunks: int) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Any) -> Any:
        if not chunks:
            return JSONResponse({"id": 1})
        return send_chunks

    async def send_chunks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return instrument(Starlette(routes=[Route(f"/items{number}/{{id}}", item) for number in range(routes)]), observer)


def instrument(app: Any, observer: str) -> Any:
    """Add the middleware of an observer to an application; none if it is empty."""
    if observer == "connectsoft-obs":
        import connectsoft_obs as obs

        if hasattr(app, "add_middleware"):
            app.add_middleware(obs.ObservabilityMiddleware, service="bench", instrumentations="none")
            return app
        return obs.ObservabilityMiddleware(app, service="bench", instrumentations="none")
    if observer == PEER:
        from opentelemetry import trace
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
        return OpenTelemetryMiddleware(app)
    return app


DIMENSIONS: dict[str, tuple[Callable[[int, str], Any], tuple[int, ...], bool]] = {
    # name: (application, sizes, whether the cost is divided by the size)
    "routes": (with_routes, (20, 200, 2000), False),
    "concurrent requests": (with_concurrent_requests, (1, 10, 100, 1000), False),
    "response chunks, cost per chunk": (with_chunks, (1, 10, 100, 1000), True),
    "metric series in the process": (with_series, (100, 2000, 20000), False),
    "WebSocket messages each way, cost per message": (with_messages, (1, 10, 100, 1000), True),
}
CHUNK_DIMENSIONS = {
    "one of 1,000 response chunks": "response chunks, cost per chunk",
    "one of 1,000 WebSocket messages each way": "WebSocket messages each way, cost per message",
}


def is_websocket(dimension: str) -> bool:
    """Whether the application of a dimension is a WebSocket."""
    return dimension.startswith("messages")


def create_scope(dimension: str, number: int) -> dict[str, Any]:
    """The ASGI scope of a request, as a server creates it."""
    common = {
        "asgi": {"version": "3.0"}, "http_version": "1.1", "path": f"/items0/{number}", "query_string": b"",
        "root_path": "", "headers": [(b"host", b"api.example")], "client": ("10.1.2.3", 50000),
        "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    if is_websocket(dimension):
        return {"type": "websocket", "scheme": "ws", "subprotocols": [], **common}
    return {"type": "http", "method": "GET", "scheme": "http", **common}


async def run_request(app: Any, dimension: str, number: int, gate: asyncio.Event | None) -> None:
    """Run one request or WebSocket; its response waits for the gate, if there is one."""
    messages = iter([{"type": "websocket.connect"} if is_websocket(dimension) else {"type": "http.request"}])
    further_message = {"type": "websocket.receive", "text": "ping"}

    async def receive() -> dict[str, Any]:
        return next(messages, further_message)

    async def send(message: Any) -> None:
        if gate is not None and message["type"] == "http.response.start":
            await gate.wait()

    await app(create_scope(dimension, number % 100), receive, send)


async def run_batch(app: Any, dimension: str, count: int, concurrency: int) -> None:
    """Run `count` requests, `concurrency` of them at a time."""
    for first in range(0, count, concurrency):
        if concurrency == 1:
            await run_request(app, dimension, first, None)
            continue
        gate = asyncio.Event()
        tasks = [
            asyncio.create_task(run_request(app, dimension, first + number, gate)) for number in range(concurrency)
        ]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)


def calibrate() -> float:
    """CPU seconds of a fixed amount of work."""
    started, total = time.thread_time(), 0
    for number in range(30_000):
        total += len(str(number)) + number % 7
    assert total
    return time.thread_time() - started


async def serve_commands(dimension: str, size: int, observer: str) -> None:
    """For each line on standard input, run a batch and write its calibrated cost to standard error."""
    create_app, _, is_divided = DIMENSIONS[dimension]
    app = create_app(size, observer)
    count = max(20, REQUESTS // size) if is_divided else max(REQUESTS, size)
    concurrency = size if dimension == "concurrent requests" else 1
    await run_batch(app, dimension, count, concurrency)
    results = sys.__stderr__
    assert results is not None
    while await asyncio.to_thread(sys.stdin.readline):
        calibration_before, started = calibrate(), time.process_time()
        await run_batch(app, dimension, count, concurrency)
        spent = time.process_time() - started
        calibration = (calibration_before + calibrate()) / 2
        print(json.dumps(spent / count / (size if is_divided else 1) / calibration), file=results, flush=True)


class AppProcess:
    """One application in a process of its own."""

    def __init__(self, dimension: str, size: int, observer: str) -> None:
        command = [sys.executable, __file__, "--app", dimension, str(size), observer]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def cost(self) -> float:
        """The calibrated cost of one request, chunk or message."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        cost: float = json.loads(self._process.stderr.readline())
        return cost

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()


def measure_costs(dimension: str, sizes: tuple[int, ...], observers: tuple[str, ...], rounds: int) -> Costs:
    """By size and observer: the cost in each round, in which all of them take turns."""
    processes = {(size, observer): AppProcess(dimension, size, observer) for size in sizes for observer in observers}
    costs: Costs = {key: [] for key in processes}
    for _ in range(rounds):
        for key in random.sample(list(processes), len(processes)):
            costs[key].append(processes[key].cost())
    for process in processes.values():
        process.stop()
    return costs


def added_cost(costs: Costs, size: int, observer: str) -> float:
    """The cost that an observer adds to the bare application."""
    return statistics.median(cost - bare for cost, bare in zip(costs[size, observer], costs[size, ""], strict=True))


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """By dimension and size: the added cost as a multiple of that of the smallest size."""
    results = {}
    for dimension, (_, sizes, _) in DIMENSIONS.items():
        costs = measure_costs(dimension, sizes, ("", "connectsoft-obs"), rounds)
        smallest = added_cost(costs, min(sizes), "connectsoft-obs")
        results[dimension] = {str(size): added_cost(costs, size, "connectsoft-obs") / smallest for size in sizes}
    return results


def measure_chunks(rounds: int) -> dict[str, dict[str, float]]:
    """The added cost of a chunk and of a WebSocket message, relative to the cost of the bare application."""
    results = {}
    for name, dimension in CHUNK_DIMENSIONS.items():
        costs = measure_costs(dimension, (1000,), ("", "connectsoft-obs", PEER), rounds)
        bare = statistics.median(costs[1000, ""])
        results[name] = {observer: added_cost(costs, 1000, observer) / bare for observer in ("connectsoft-obs", PEER)}
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as text."""
    rows = []
    for dimension, figures in results.items():
        rows.append(f"{dimension:<48}" + "".join(f"{size:>8}: {cost:4.2f}" for size, cost in figures.items()))
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--app", nargs=3, help="run the process of this application (used internally)")
    options = parser.parse_args()
    if options.app:
        asyncio.run(serve_commands(options.app[0], int(options.app[1]), options.app[2]))
        return
    print(table(measure(options.rounds)))
    for name, row in measure_chunks(options.rounds).items():
        print(f"{name:<48}" + "".join(f"{observer}: {share:.2f} of bare   " for observer, share in row.items()))


if __name__ == "__main__":
    main()
