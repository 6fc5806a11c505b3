"""A service with a Prometheus collector that hangs until it is released."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

started, released = threading.Event(), threading.Event()


class HangingCollector:
    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        started.set()
        released.wait(20)
        yield GaugeMetricFamily("hanging_collector_value", "Collected after the release.", 1)


REGISTRY.register(HangingCollector())


async def stuck(request: Request) -> Response:
    await asyncio.get_running_loop().run_in_executor(None, started.wait, 10)
    return PlainTextResponse("stuck" if started.is_set() else "idle")


async def release(request: Request) -> Response:
    released.set()
    return PlainTextResponse("released")


app = Starlette(routes=[Route("/stuck", stuck), Route("/release", release)])
app.add_middleware(obs.ObservabilityMiddleware, service="hanging-collector")
