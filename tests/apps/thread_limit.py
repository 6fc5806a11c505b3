"""A service on a machine that refuses threads of ours, until it is told to refuse them no more."""

from __future__ import annotations

import threading

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

start = threading.Thread.start
refusing = True


def refused(thread: threading.Thread) -> None:
    if refusing and thread.name.startswith("obs-"):
        raise RuntimeError("can't start new thread")
    start(thread)


threading.Thread.start = refused  # type: ignore[method-assign, assignment]


async def item(request: Request) -> Response:
    obs.get_logger("shop").info("looked up", item=request.path_params["number"])
    return PlainTextResponse("here")


async def room(request: Request) -> Response:
    global refusing
    refusing = False
    return PlainTextResponse("there is room")


@obs.readiness_check("stock")
def stock() -> None:
    pass


app = Starlette(routes=[Route("/items/{number}", item), Route("/room", room)])
app.add_middleware(obs.ObservabilityMiddleware, service="refused")
