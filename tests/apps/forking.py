"""A service whose workers fork child processes."""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

tasks = obs.counter("pool.tasks", unit="{task}")


def count_in_child() -> int:
    child = os.fork()
    if child == 0:
        tasks.add(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


async def fork(request: Request) -> Response:
    tasks.add(1)
    return PlainTextResponse(str(await asyncio.get_running_loop().run_in_executor(None, count_in_child)))


app = Starlette(routes=[Route("/fork", fork)])
app.add_middleware(obs.ObservabilityMiddleware, service="forking")
