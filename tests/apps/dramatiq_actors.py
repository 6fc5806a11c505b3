"""Actors of Dramatiq, whose worker processes replace standard output by a framed pipe to the main process."""

from __future__ import annotations

import logging
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import connectsoft_obs as obs

broker = RedisBroker(url=os.environ["BROKER"], namespace=os.environ["QUEUE"])  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)
log = obs.get_logger("orders")


@dramatiq.actor(max_retries=0)
@obs.job("count-lines", trigger="queue")
def count_lines(number: int) -> None:
    for index in range(number):
        log.info("line", index=index, padding="x" * 1000)
    print("printed", flush=True)
    logging.getLogger("library").warning("from the standard library")


obs.configure(service="dramatiq-orders")
