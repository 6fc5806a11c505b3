"""A small service that produces all four signals and reports its export queues; for fault and load tests."""

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

log = obs.get_logger("four-signals")


@obs.job("price")
async def price(item: int) -> int:
    return item * 3


async def item(request: Request) -> Response:
    number = int(request.path_params["id"])
    obs.bind(order_id=number)
    total = await price(number)
    log.info("priced", total=total)
    return JSONResponse({"id": number, "total": total})


async def internals(request: Request) -> Response:
    """Queued items, export states, dropped items and internal errors of the worker that answers."""
    telemetry = resolve()
    family, exporters = telemetry.metrics.family, telemetry.exporters
    return JSONResponse(
        {
            "pid": os.getpid(),
            "queued": {processor.signal.value: processor.pending for processor in telemetry.export_processors()},
            "state": {status.destination.signal.value: status.state.value for status in exporters.statuses}
            if exporters
            else {},
            "dropped": {"/".join(key): child.cells[0] for key, child in family(DROPPED).children.items()},
            "errors": {key[0]: child.cells[0] for key, child in family(ERRORS).children.items()},
        }
    )


service = Starlette(routes=[Route("/items/{id:int}", item), Route("/internals", internals)])
service.add_middleware(obs.ObservabilityMiddleware, service="four-signals")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The service; after the final flush it prints how many spans it has dropped, including those left in the queue."""

    async def send_and_report(message: Any) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            telemetry = resolve()
            telemetry.shutdown(0)
            dropped = telemetry.metrics.family(DROPPED).children.items()
            spans_dropped = sum(child.cells[0] for (signal, _), child in dropped if signal == "traces")
            print(json.dumps({"message": "final drop count", "spans_dropped": spans_dropped}), flush=True)
        await send(message)

    await service(scope, receive, send_and_report if scope["type"] == "lifespan" else send)
