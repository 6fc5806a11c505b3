"""A shop that accepts orders over HTTP and publishes each of them to RabbitMQ: `uvicorn shop:app`."""

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
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold one connection and channel while the service runs."""
    async with await aio_pika.connect_robust(BROKER) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True)
        app.state.exchange = channel.default_exchange
        yield


async def create_order(request: Request) -> Response:
    """Accept an order and publish it."""
    body = await request.body()
    with obs.producer("orders", system="rabbitmq") as headers:
        await request.app.state.exchange.publish(aio_pika.Message(body, headers={**headers}), "orders")
    return JSONResponse({"accepted": True}, status_code=202)


app = Starlette(routes=[Route("/orders", create_order, methods=["POST"])], lifespan=lifespan)
app.add_middleware(obs.ObservabilityMiddleware, service="shop")
