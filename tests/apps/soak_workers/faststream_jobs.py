"""A FastStream application; a message that is to be retried is returned to its queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from faststream import FastStream
from faststream.exceptions import NackMessage
from faststream.rabbit import Channel, RabbitBroker

from connectsoft_obs.integrations import faststream
from soak_workers.attempts import Attempt, RetryRequested

broker = RabbitBroker(os.environ["BROKER"], default_channel=Channel(prefetch_count=5))
app = FastStream(broker)
faststream.install(app, service="soak")


@broker.subscriber(os.environ["QUEUE"])
async def run(number: int, kind: str) -> None:
    try:
        with Attempt(number, kind) as attempt:
            await asyncio.sleep(attempt.seconds)
            attempt.finish()
    except RetryRequested as error:
        raise NackMessage from error


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    async def send(number: int, kind: str) -> None:
        await broker.publish({"number": number, "kind": kind}, queue=os.environ["QUEUE"])

    async with broker:
        yield send
