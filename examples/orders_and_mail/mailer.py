"""A worker that mails a confirmation of each order: `python mailer.py`. Its endpoints are on port 9464.

The order says what happens to it, so that every outcome can be seen: `{"order": 1}` is mailed; `"mail": "refused"`
fails each time, `"refused once"` the first time, and `"slow"` takes too long; `{"withdrawn": 1}` cancels order 1 while
it is processed; what is no JSON is nobody's failure but the sender's.
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
in_work: dict[int, asyncio.Task[None]] = {}
log = obs.get_logger("mailer")


@obs.job("send-mail")
async def send_mail(number: int, server: str) -> None:
    """Send one mail; the mail server has its moods."""
    if server == "refused":
        message = "the mail server refused"
        raise ConnectionError(message)
    await asyncio.sleep(30 if server == "slow" else 0.01)
    log.info("confirmed", order=number)


@obs.consumer("orders", system="rabbitmq", timeout=1.0, rejects=ValueError)
async def process(message: AbstractIncomingMessage) -> None:
    """Process one order."""
    order: dict[str, Any] = json.loads(message.body)
    if "withdrawn" in order:
        in_work[order["withdrawn"]].cancel()
        return
    obs.bind(order_id=order["order"])
    server = order.get("mail", "well")
    if server == "refused once":
        server = "well" if message.redelivered else "refused"
    await send_mail(order["order"], server)


async def handle(message: AbstractIncomingMessage) -> None:
    """Process a message and say to the broker what becomes of it."""
    task = asyncio.create_task(process(message))
    number = _number(message.body)
    in_work[number] = task
    try:
        await task
    except ValueError:
        await message.reject(requeue=False)
    except (ConnectionError, TimeoutError):
        await message.reject(requeue=not message.redelivered)  # tried once more, then dropped
    except asyncio.CancelledError:
        await message.ack()  # withdrawn
    else:
        await message.ack()
    finally:
        in_work.pop(number, None)


def _number(body: bytes) -> int:
    try:
        return int(json.loads(body)["order"])
    except (ValueError, KeyError, TypeError):
        return -1


async def main() -> None:
    """Consume until the platform says to stop."""
    async with obs.worker(service="mailer") as worker, await aio_pika.connect_robust(BROKER) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue("orders", durable=True)
        tag = await queue.consume(handle)
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            await asyncio.sleep(0.1)
        await queue.cancel(tag)
        while in_work:  # noqa: ASYNC110  the broker's callbacks finish what they began
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
