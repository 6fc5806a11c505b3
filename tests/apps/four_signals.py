"""The small service of the scenarios under fire: work with all four signals, and a look inside from outside."""

from __future__ import annotations

import json
import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.vocabulary import DROPPED, ERRORS

log = obs.get_logger("watched")


@obs.job("price")
async def price(item: int) -> int:
    return item * 3


async def item(request: Request) -> Response:
    number = int(request.path_params["id"])
    obs.bind(order_id=number)
    total = await price(number)
    log.info("priced", total=total)
    return JSONResponse({"id": number, "total": total})


async def inside(request: Request) -> Response:
    """What waits, what was dropped and what went wrong in the worker that answers."""
    telemetry = resolve()
    family = telemetry.metrics.family
    return JSONResponse(
        {
            "pid": os.getpid(),
            "waiting": {line.signal.value: line.waiting for line in telemetry.pipelines()},
            "state": {line.signal.value: line.state.value for line in telemetry.pipelines()},
            "dropped": {"/".join(key): child.cells[0] for key, child in family(DROPPED).children.items()},
            "errors": {key[0]: child.cells[0] for key, child in family(ERRORS).children.items()},
        }
    )


service = Starlette(routes=[Route("/items/{id:int}", item), Route("/inside", inside)])
service.add_middleware(obs.ObservabilityMiddleware, service="watched")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The service, and its last word when all is flushed: what it has counted as dropped, the queues' rest included."""

    async def told(message: Any) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            telemetry = resolve()
            telemetry.shutdown(0)
            dropped = telemetry.metrics.family(DROPPED).children.items()
            spans = sum(child.cells[0] for (signal, _), child in dropped if signal == "traces")
            print(json.dumps({"message": "final account", "spans_dropped": spans}), flush=True)
        await send(message)

    await service(scope, receive, told if scope["type"] == "lifespan" else send)
