"""A shop that takes orders over HTTP and tells the mailer of each by RabbitMQ: `uvicorn shop:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs

BROKER = os.environ.get("BROKER", "amqp://guest:guest@127.0.0.1/")


@asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[None]:
    """One channel for as long as the service lives."""
    async with await aio_pika.connect_robust(BROKER) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True)
        app.state.exchange = channel.default_exchange
        yield


async def order(request: Request) -> Response:
    """Take an order and pass it on."""
    body = await request.body()
    with obs.producer("orders", system="rabbitmq") as headers:
        await request.app.state.exchange.publish(aio_pika.Message(body, headers={**headers}), "orders")
    return JSONResponse({"taken": True}, status_code=202)


app = Starlette(routes=[Route("/orders", order, methods=["POST"])], lifespan=connected)
app.add_middleware(obs.ObservabilityMiddleware, service="shop")
