"""A service with three failing dependencies, or one healthy one, that counts the calls of its checks."""

from __future__ import annotations

import itertools
import os
import threading
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

calls: dict[str, int] = {}
in_flight: dict[str, int] = {}
max_concurrent: dict[str, int] = {}


class Call:
    """Counts a call of a dependency, and the concurrent calls while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        calls[self.name] = calls.get(self.name, 0) + 1
        in_flight[self.name] = in_flight.get(self.name, 0) + 1
        max_concurrent[self.name] = max(max_concurrent.get(self.name, 0), in_flight[self.name])

    def __exit__(self, *_: object) -> None:
        in_flight[self.name] -= 1


if os.environ.get("DEPENDENCIES") == "bad":
    outcomes = itertools.cycle([None, ValueError("flapping")])

    @obs.readiness_check("hangs", interval=0.5, timeout=0.3, critical=False)
    def hangs() -> None:
        with Call("hangs"):
            threading.Event().wait()

    @obs.readiness_check("flaps", interval=0.5, timeout=0.3)
    def flaps() -> None:
        with Call("flaps"):
            if (error := next(outcomes)) is not None:
                raise error

    @obs.readiness_check("slow", interval=0.5, timeout=0.4)
    def slow() -> None:
        with Call("slow"):
            time.sleep(0.3)

else:

    @obs.readiness_check("good", interval=1)
    def good() -> None:
        with Call("good"):
            pass


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def statistics(_: Request) -> Response:
    return JSONResponse({"calls": calls, "max_concurrent": max_concurrent, "cpu": time.process_time()})


app = Starlette(routes=[Route("/hello", hello), Route("/statistics", statistics)])
app.add_middleware(obs.ObservabilityMiddleware, service="bad-dependencies", access_log="off")
