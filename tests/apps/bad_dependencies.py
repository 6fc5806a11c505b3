"""A service with three bad dependencies, or one good one, and an account of what was asked of them."""

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
flying: dict[str, int] = {}
most: dict[str, int] = {}


class Call:
    """Counts one call of a dependency while it lasts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        calls[self.name] = calls.get(self.name, 0) + 1
        flying[self.name] = flying.get(self.name, 0) + 1
        most[self.name] = max(most.get(self.name, 0), flying[self.name])

    def __exit__(self, *_: object) -> None:
        flying[self.name] -= 1


if os.environ.get("DEPENDENCIES") == "bad":
    outcomes = itertools.cycle([None, ValueError("flap")])

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


async def account(_: Request) -> Response:
    return JSONResponse({"calls": calls, "most": most, "cpu": time.process_time()})


app = Starlette(routes=[Route("/hello", hello), Route("/account", account)])
app.add_middleware(obs.ObservabilityMiddleware, service="depended", access_log="off")
