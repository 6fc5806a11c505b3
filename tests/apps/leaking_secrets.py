"""A service that puts secrets into log lines, errors, attributes, arguments and messages."""

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
log = obs.get_logger("leaking")
items = obs.counter("leaking.items", labels=("kind",))


async def logged(request: Request) -> Response:
    log.info("logged", **planted, headers=dict(request.headers), nested={"deep": [planted]})
    log.info(f"connecting to {planted['dsn']} with {planted['bearer']} and {planted['jwt']}")  # noqa: G004  the mistake that is tested
    logging.getLogger("leaking").warning("login with %s", planted["jwt"], extra={"password": planted["password"]})
    logging.getLogger("leaking").warning("paid by %s at %s", planted["card"], planted["dsn"])
    structlog.get_logger("leaking").info("key", connection=planted["azure"])
    return PlainTextResponse("logged")


async def raised(_: Request) -> Response:
    raise ConnectionError(f"cannot connect to {planted['dsn']}, {planted['azure']}")


async def bound(_: Request) -> Response:
    obs.bind(api_key=planted["password"], authorization=planted["bearer"], cookie=planted["cookie"])
    log.info("bound")
    return PlainTextResponse("bound")


async def measured(_: Request) -> Response:
    items.add(1, kind="one")
    return PlainTextResponse("measured")


@obs.job("leaking-job", record=["password", "dsn"])
def charge(password: str, dsn: str, *_: Any) -> None:
    log.info("charged")
    raise ValueError(f"no such account at {dsn}")


async def job(_: Request) -> Response:
    charge(planted["password"], planted["dsn"], planted)
    return PlainTextResponse("never")


async def message(request: Request) -> Response:
    headers = {**dict(request.headers), "tenant-id": planted["bearer"], "message_id": planted["jwt"]}
    with obs.consumer("leaking", system="rabbitmq").process({"headers": headers, "body": json.dumps(planted)}):
        log.info("processed")
    with obs.producer("leaking", system="rabbitmq"):
        trace.get_current_span().add_event("sent")
    return PlainTextResponse("processed")


async def logged_text(request: Request) -> Response:
    text = request.query_params.get("text", "")
    log.info(text, text=text)
    logging.getLogger("leaking\nforged").warning(text)
    return PlainTextResponse("logged")


@obs.readiness_check("database", timeout=1.0)
def database() -> None:
    if planted:
        raise ConnectionError(f"cannot reach {planted['dsn']} with {planted['bearer']}")


endpoints = {
    "logged": logged,
    "raised": raised,
    "bound": bound,
    "measured": measured,
    "job": job,
    "message": message,
    "logged-text": logged_text,
}
app = Starlette(routes=[Route(f"/{name}", endpoint) for name, endpoint in endpoints.items()])
app.add_middleware(obs.ObservabilityMiddleware, service="leaking-secrets")
