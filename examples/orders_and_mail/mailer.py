"""A worker that mails a confirmation for each order: `python mailer.py`. Its endpoints are on port 9464.

The message selects its outcome, so that every outcome can be produced: `{"order": 1}` is mailed; `"mail": "refused"`
fails on every delivery, `"refused once"` on the first one, and `"slow"` exceeds the timeout; `{"cancel": 1}` cancels
order 1 while it is processed; a message that is not JSON is rejected.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

import connectsoft_obs as obs

BROKER = os.environ.get("BROKER", "amqp://guest:guest@127.0.0.1/")
active_tasks: dict[int, asyncio.Task[None]] = {}
log = obs.get_logger("mailer")


@obs.job("send-mail")
async def send_mail(order_id: int, behaviour: str) -> None:
    """Send one mail through a simulated mail server."""
    if behaviour == "refused":
        message = "the mail server refused the connection"
        raise ConnectionError(message)
    await asyncio.sleep(30 if behaviour == "slow" else 0.01)
    log.info("confirmation sent", order=order_id)


@obs.consumer("orders", system="rabbitmq", timeout=1.0, rejects=ValueError)
async def process(message: AbstractIncomingMessage) -> None:
    """Process one message."""
    order: dict[str, Any] = json.loads(message.body)
    if "cancel" in order:
        active_tasks[order["cancel"]].cancel()
        return
    obs.bind(order_id=order["order"])
    behaviour = order.get("mail", "ok")
    if behaviour == "refused once":
        behaviour = "ok" if message.redelivered else "refused"
    await send_mail(order["order"], behaviour)


async def handle(message: AbstractIncomingMessage) -> None:
    """Process a message and acknowledge or reject it."""
    task = asyncio.create_task(process(message))
    order_id = _order_id(message.body)
    active_tasks[order_id] = task
    try:
        await task
    except ValueError:
        await message.reject(requeue=False)
    except (ConnectionError, TimeoutError):
        await message.reject(requeue=not message.redelivered)  # one redelivery, then dropped
    except asyncio.CancelledError:
        await message.ack()  # the order was cancelled
    else:
        await message.ack()
    finally:
        active_tasks.pop(order_id, None)


def _order_id(body: bytes) -> int:
    try:
        return int(json.loads(body)["order"])
    except (ValueError, KeyError, TypeError):
        return -1


async def main() -> None:
    """Consume until SIGTERM, then wait for the active messages."""
    async with obs.worker(service="mailer") as worker, await aio_pika.connect_robust(BROKER) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue("orders", durable=True)
        tag = await queue.consume(handle)
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            await asyncio.sleep(0.1)
        await queue.cancel(tag)
        while active_tasks:  # noqa: ASYNC110  the broker's callbacks complete on their own
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
