"""A service that puts its secrets wherever a careless developer might."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import structlog
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

planted: dict[str, str] = json.loads(os.environ.get("PLANTED", "{}"))
log = obs.get_logger("careless")
things = obs.counter("careless.things", labels=("kind",))


async def logged(request: Request) -> Response:
    log.info("logged", **planted, headers=dict(request.headers), nested={"deep": [planted]})
    log.info(f"connecting to {planted['dsn']} with {planted['bearer']} and {planted['jwt']}")  # noqa: G004  as careless people do
    logging.getLogger("careless").warning("login with %s", planted["jwt"], extra={"password": planted["password"]})
    logging.getLogger("careless").warning("paid by %s at %s", planted["card"], planted["dsn"])
    structlog.get_logger("careless").info("key", connection=planted["azure"])
    return PlainTextResponse("logged")


async def raised(_: Request) -> Response:
    raise ConnectionError(f"cannot connect to {planted['dsn']}, {planted['azure']}")


async def bound(_: Request) -> Response:
    obs.bind(api_key=planted["password"], authorization=planted["bearer"], cookie=planted["cookie"])
    log.info("bound")
    return PlainTextResponse("bound")


async def measured(_: Request) -> Response:
    things.add(1, kind="one")
    return PlainTextResponse("measured")


@obs.job("careless-job", record=["password", "dsn"])
def charge(password: str, dsn: str, *rest: Any) -> None:
    log.info("charged")
    raise ValueError(f"no such account at {dsn}")


async def job(_: Request) -> Response:
    charge(planted["password"], planted["dsn"], planted)
    return PlainTextResponse("never")


async def message(request: Request) -> Response:
    headers = {**dict(request.headers), "tenant-id": planted["bearer"], "message_id": planted["jwt"]}
    with obs.consumer("careless", system="rabbitmq").span_name({"headers": headers, "body": json.dumps(planted)}):
        log.info("processed")
    with obs.producer("careless", system="rabbitmq"):
        trace.get_current_span().add_event("sent")
    return PlainTextResponse("processed")


async def said(request: Request) -> Response:
    what = request.query_params.get("what", "")
    log.info(what, what=what)
    logging.getLogger("careless\nforged").warning(what)
    return PlainTextResponse("said")


@obs.readiness_check("database", timeout=1.0)
def database() -> None:
    if planted:
        raise ConnectionError(f"cannot reach {planted['dsn']} with {planted['bearer']}")


ways = {
    "logged": logged,
    "raised": raised,
    "bound": bound,
    "measured": measured,
    "job": job,
    "message": message,
    "said": said,
}
app = Starlette(routes=[Route(f"/{name}", way) for name, way in ways.items()])
app.add_middleware(obs.ObservabilityMiddleware, service="careless")
