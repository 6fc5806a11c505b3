"""A service with a collector that hangs until it is let go."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

reached, released = threading.Event(), threading.Event()


class Slow:
    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        reached.set()
        released.wait(20)
        yield GaugeMetricFamily("from_a_slow_collector", "It took a while.", 1)


REGISTRY.register(Slow())


async def stuck(request: Request) -> Response:
    import asyncio

    await asyncio.get_running_loop().run_in_executor(None, reached.wait, 10)
    return PlainTextResponse("stuck" if reached.is_set() else "free")


async def release(request: Request) -> Response:
    released.set()
    return PlainTextResponse("released")


app = Starlette(routes=[Route("/stuck", stuck), Route("/release", release)])
app.add_middleware(obs.ObservabilityMiddleware, service="stuck")
