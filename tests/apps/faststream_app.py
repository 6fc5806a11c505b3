"""A FastStream application with the integration installed."""

from __future__ import annotations

import asyncio
import os

from faststream import FastStream
from faststream.exceptions import RejectMessage, SkipMessage
from faststream.rabbit import RabbitBroker

import connectsoft_obs as obs
from connectsoft_obs.integrations import faststream

queue = os.environ["QUEUE"]
broker = RabbitBroker(os.environ["BROKER"])
app = FastStream(broker)
faststream.install(app, service="audit-ingest")
log = obs.get_logger("ingest")


@broker.subscriber(queue)
async def handle(body: dict[str, str]) -> None:
    log.info("ingesting", kind=body["kind"])
    kind = body["kind"]
    if kind == "fails":
        raise ValueError(kind)
    if kind == "poison":
        raise RejectMessage
    if kind == "skipped":
        raise SkipMessage
    if kind == "slow":
        async with asyncio.timeout(0.1):
            await asyncio.sleep(30)
    if kind == "sleep":
        await asyncio.sleep(float(body["seconds"]))
    if kind == "relay":
        await broker.publish({"kind": "fine"}, queue=f"{queue}-next")


@broker.subscriber(f"{queue}-next")
async def handle_next(body: dict[str, str]) -> None:
    log.info("ingesting", kind=body["kind"])
