"""A service with mistakes that `connectsoft-obs doctor` reports."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs import slo


async def order(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


@obs.readiness_check("postgres")
def postgres() -> None:
    """Always healthy."""


app = Starlette(routes=[Route("/orders/{order_id}", order)])
app.add_middleware(
    obs.ObservabilityMiddleware,
    service="orders-api",
    details_token="correct-horse-battery",
    objectives=[slo.availability("orders", 99.9, routes=["/orders/{id}"])],
)
plain = Starlette(routes=[Route("/orders/{order_id}", order)])
