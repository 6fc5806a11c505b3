"""A service that writes many log lines through every logging API."""

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

native = obs.get_logger("chatty.native")
structlog_logger = structlog.get_logger("chatty.structlog")
standard = logging.getLogger("chatty.standard")


async def log(request: Request) -> Response:
    """One line through each API."""
    obs.bind(tenant_id="acme")
    native.info("native", number=1)
    structlog_logger.info("structlog", number=2)
    standard.info("standard %d", 3, extra={"number": 3})
    warnings.warn("a warning", UserWarning, stacklevel=1)
    return PlainTextResponse("logged")


def sync(request: Request) -> Response:
    """A synchronous endpoint, which the framework runs in a thread."""
    native.info("from a sync endpoint")
    return PlainTextResponse("sync")


async def threads_and_tasks(request: Request) -> Response:
    """Lines from tasks, threads and background tasks."""

    async def task() -> None:
        native.info("from a task")

    async def background() -> None:
        await asyncio.sleep(0.05)
        native.info("from a background task")

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: native.info("from an executor"))
    await loop.run_in_executor(None, standard.info, "standard from an executor")
    await asyncio.to_thread(native.info, "from to_thread")
    await asyncio.create_task(task())
    return PlainTextResponse("done", background=BackgroundTask(background))


async def boom(request: Request) -> Response:
    message = "it broke: password=hunter2"
    raise ValueError(message)


async def unhandled(request: Request) -> Response:
    """An exception in a task that is never awaited, and one in a thread."""

    async def fail_in_task() -> None:
        message = "in a task"
        raise RuntimeError(message)

    def fail_in_thread() -> None:
        message = "in a thread"
        raise LookupError(message)

    task = asyncio.create_task(fail_in_task(), name="never-awaited")
    thread = threading.Thread(target=fail_in_thread, name="worker-7")
    thread.start()
    thread.join()
    await asyncio.sleep(0.01)
    del task
    return PlainTextResponse("done")


async def chatty(request: Request) -> Response:
    """Write `lines` numbered lines; every tenth is long, every fiftieth exceeds the size of an atomic pipe write."""
    client, lines = request.query_params["client"], int(request.query_params["lines"])
    for number in range(lines):
        if number % 50 == 49:
            native.warning("a long line", client=client, number=number, text="x" * 7000, more="y" * 7000)
        elif number % 10 == 9:
            standard.info("a longer line %s", "z" * 800, extra={"client": client, "number": number})
        elif number % 2:
            structlog_logger.info("a line of structlog", client=client, number=number)
        else:
            native.info("a line", client=client, number=number)
    return PlainTextResponse(str(lines))


async def errors(request: Request) -> Response:
    for _ in range(int(request.query_params["times"])):
        native.error("repeated error", dependency="db")
    return PlainTextResponse("done")


async def exit_process(request: Request) -> Response:
    """Log a line, wait, and end the process without any cleanup."""
    native.info("long before the exit")
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
    Route("/log", log),
    Route("/sync", sync),
    Route("/threads-and-tasks", threads_and_tasks),
    Route("/boom", boom),
    Route("/unhandled", unhandled),
    Route("/chatty", chatty),
    Route("/errors", errors),
    Route("/exit", exit_process),
    Route("/debug", debug),
    Route("/slow", slow),
    Route("/pid", lambda _: PlainTextResponse(str(os.getpid()))),
]
app = Starlette(routes=routes)
app.add_middleware(obs.ObservabilityMiddleware, service="chatty")
