"""A service that says a great deal, by every way there is to say something."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings

import structlog
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

native = obs.get_logger("talk.native")
others = structlog.get_logger("talk.structlog")
standard = logging.getLogger("talk.standard")


async def say(request: Request) -> Response:
    """One line by each way."""
    obs.bind(tenant_id="acme")
    native.info("native", number=1)
    others.info("structlog", number=2)
    standard.info("standard %d", 3, extra={"number": 3})
    warnings.warn("a warning", UserWarning, stacklevel=1)
    return PlainTextResponse("said")


def sync(request: Request) -> Response:
    """A plain function, which the framework runs in a thread."""
    native.info("from a sync endpoint")
    return PlainTextResponse("sync")


async def elsewhere(request: Request) -> Response:
    """Lines from wherever work may go."""

    async def task() -> None:
        native.info("from a task")

    async def later() -> None:
        await asyncio.sleep(0.05)
        native.info("from a background task")

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: native.info("from an executor"))
    await loop.run_in_executor(None, standard.info, "standard from an executor")
    await asyncio.to_thread(native.info, "from to_thread")
    await asyncio.create_task(task())
    return PlainTextResponse("elsewhere", background=BackgroundTask(later))


async def boom(request: Request) -> Response:
    message = "it broke: password=hunter2"
    raise ValueError(message)


async def unraised(request: Request) -> Response:
    """An exception in a task that nobody waits for, and one in a thread."""

    async def fails() -> None:
        message = "nobody waits"
        raise RuntimeError(message)

    def dies() -> None:
        message = "in a thread"
        raise LookupError(message)

    task = asyncio.create_task(fails(), name="lonely")
    thread = threading.Thread(target=dies, name="worker-7")
    thread.start()
    thread.join()
    await asyncio.sleep(0.01)
    del task
    return PlainTextResponse("fine")


async def chatty(request: Request) -> Response:
    """`lines` lines, each with who and how often; every tenth long, every fiftieth longer than a pipe takes at once."""
    who, lines = request.query_params["who"], int(request.query_params["lines"])
    for number in range(lines):
        if number % 50 == 49:
            native.warning("a long line", who=who, number=number, text="x" * 7000, more="y" * 7000)
        elif number % 10 == 9:
            standard.info("a longer line %s", "z" * 800, extra={"who": who, "number": number})
        elif number % 2:
            others.info("a line of structlog", who=who, number=number)
        else:
            native.info("a line", who=who, number=number)
    return PlainTextResponse(str(lines))


async def errors(request: Request) -> Response:
    for _ in range(int(request.query_params["times"])):
        native.error("the same again", dependency="db")
    return PlainTextResponse("done")


async def leave(request: Request) -> Response:
    """Say something, wait a little, and end the process without any goodbye."""
    native.info("long before the end")
    await asyncio.sleep(float(request.query_params["wait"]))
    os._exit(3)


async def debug(request: Request) -> Response:
    native.debug("native debug")
    standard.debug("standard debug")
    return JSONResponse({"pid": os.getpid()})


async def slow(request: Request) -> Response:
    await asyncio.sleep(0.2)
    return PlainTextResponse("slow")


routes = [
    Route("/say", say),
    Route("/sync", sync),
    Route("/elsewhere", elsewhere),
    Route("/boom", boom),
    Route("/unraised", unraised),
    Route("/chatty", chatty),
    Route("/errors", errors),
    Route("/leave", leave),
    Route("/debug", debug),
    Route("/slow", slow),
    Route("/pid", lambda _: PlainTextResponse(str(os.getpid()))),
]
app = Starlette(routes=routes)
app.add_middleware(obs.ObservabilityMiddleware, service="talk")
