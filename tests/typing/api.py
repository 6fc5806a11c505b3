"""Types of the public API. mypy checks this module; it is not executed."""

from __future__ import annotations

import asyncio
from typing import assert_type

from fastapi import FastAPI
from opentelemetry.trace import Span
from starlette.applications import Starlette

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture

app = Starlette()
app.add_middleware(obs.ObservabilityMiddleware, service="orders-api")
api = FastAPI()
api.add_middleware(obs.ObservabilityMiddleware, service="orders-api", namespace="shop", access_log="errors")
wrapped = obs.ObservabilityMiddleware(app, service="orders-api", route=lambda scope: str(scope["path"]))


@obs.readiness_check("postgres", timeout=1.0)
async def postgres() -> None: ...


@obs.readiness_check("recommendations", critical=False)
def recommendations() -> bool:
    return True


assert_type(recommendations(), bool)

telemetry = obs.configure(service="orders-api", environment="staging")
assert_type(telemetry, obs.Telemetry)
assert_type(telemetry.flush(timeout=5), bool)
assert_type(telemetry.shutdown(timeout=5), bool)

obs.bind(tenant_id="acme", order_id=42)
log = obs.get_logger()
log.info("order placed", total=99.5)
log.bind(cart=1).exception("it broke")

headers: dict[str, str] = {}
obs.inject(headers)
with obs.operation("import-orders", parent=obs.extract(headers)) as run:
    run.bind({"rows": 3})

with obs.span("price", total=99.5) as current:
    assert_type(current, Span)
    current.set_attribute("currency", "EUR")


@obs.traced
async def load(number: int) -> str:
    return str(number)


@obs.traced("price", currency="EUR")
def price(number: int) -> float:
    return float(number)


@obs.span("discount")
def discount(number: int) -> float:
    return float(number)


assert_type(asyncio.run(load(1)), str)
assert_type(price(1), float)
assert_type(discount(1), float)

with capture(service="orders-api") as captured:
    assert_type(captured, Captured)
assert_type(captured.metric("http.server.request.duration").count, int)
assert_type(obs.Outcome.SUCCESS.good, bool | None)
