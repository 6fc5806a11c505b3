"""A service that cannot start the package's threads until a request lifts the limit."""

from __future__ import annotations

import threading

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

start_thread = threading.Thread.start
limit_reached = True


def start_unless_limited(thread: threading.Thread) -> None:
    if limit_reached and thread.name.startswith("obs-"):
        raise RuntimeError("can't start new thread")
    start_thread(thread)


threading.Thread.start = start_unless_limited  # type: ignore[method-assign, assignment]


async def item(request: Request) -> Response:
    obs.get_logger("shop").info("looked up", item=request.path_params["number"])
    return PlainTextResponse("in stock")


async def lift_limit(request: Request) -> Response:
    global limit_reached
    limit_reached = False
    return PlainTextResponse("limit lifted")


@obs.readiness_check("stock")
def stock() -> None:
    pass


app = Starlette(routes=[Route("/items/{number}", item), Route("/lift-limit", lift_limit)])
app.add_middleware(obs.ObservabilityMiddleware, service="thread-limit")
