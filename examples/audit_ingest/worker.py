"""Stores audit events: `python worker.py`. Reads a Redis stream with a consumer group; the endpoints are on port 9464."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, ResponseError

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks, host_checks

STREAM, DEAD_LETTER_STREAM = "audit-events", "audit-events-dead"
GROUP, CONSUMER = "audit-ingest", socket.gethostname()
AUDIT_TRAIL = Path(os.environ.get("AUDIT_TRAIL", "audit.jsonl"))
RETRY_AFTER_MS = int(os.environ.get("AUDIT_RETRY_AFTER_MS", "30000"))
Entry = tuple[str, dict[str, str]]

# After a restart of Redis, pooled connections fail when they are used next, and from_url() does not retry by default.
# The socket timeout, which is longer than any blocking read, detects connections that were lost without being closed.
broker = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    decode_responses=True,
    socket_timeout=2,
    socket_connect_timeout=2,
    retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
)
log = obs.get_logger("audit")
event_age = obs.histogram(
    "audit.event.age", unit="s", labels=("audit.event",), help="Time from an event until it can be queried."
)
backlog = obs.gauge("audit.backlog", unit="{event}", merge="max", help="Number of events not yet processed.")

obs.readiness_check("broker", scope="shared", interval=1.0)(dependency_checks.redis(broker))
obs.readiness_check("audit-trail")(host_checks.disk(str(AUDIT_TRAIL.resolve().parent), min_free_bytes=10_000_000))


@obs.consumer(STREAM, system="redis", headers=lambda entry: entry[1], rejects=ValueError, timeout=5.0)
async def ingest(entry: Entry) -> None:
    """Store one event. An invalid message raises ValueError: outcome `rejected`, no error budget consumed."""
    event = parse_event(entry[1]["body"])
    await asyncio.to_thread(append_to_trail, event)
    occurred = datetime.fromisoformat(event["occurredAt"])
    event_age.record((datetime.now(UTC) - occurred).total_seconds(), {"audit.event": event["action"]})
    log.info("event stored", event=event["action"])


def parse_event(body: str) -> dict[str, Any]:
    """Decode an event and check its required fields."""
    event = json.loads(body)
    if not isinstance(event, dict) or not {"action", "actor", "occurredAt"} <= event.keys():
        message = "an event needs action, actor and occurredAt"
        raise ValueError(message)
    return event


def append_to_trail(event: dict[str, Any]) -> None:
    """Append an event to the audit trail and flush it to disk."""
    with AUDIT_TRAIL.open("a", encoding="utf-8") as trail:
        trail.write(json.dumps(event) + "\n")
        trail.flush()
        os.fsync(trail.fileno())


async def handle(entry: Entry) -> None:
    """Process an entry and acknowledge it. After a failure it stays pending and is claimed again later."""
    try:
        await ingest(entry)
    except ValueError:
        await broker.xadd(DEAD_LETTER_STREAM, entry[1])
    except (OSError, TimeoutError):
        return
    await broker.xack(STREAM, GROUP, entry[0])


async def fetch_entries() -> list[Entry]:
    """Claim entries that failed a while ago, then read new ones; blocks for up to 200 ms."""
    _, pending, _ = await broker.xautoclaim(STREAM, GROUP, CONSUMER, RETRY_AFTER_MS, count=100)
    streams = await broker.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=100, block=200)
    return [*pending, *(entry for _, entries in streams for entry in entries)]


async def update_backlog() -> None:
    """Set the backlog metric: entries that were not delivered yet, and entries that are pending."""
    for group in await broker.xinfo_groups(STREAM):
        if group["name"] == GROUP:
            backlog.set((group["lag"] or 0) + group["pending"])


async def ensure_group() -> None:
    """Create the consumer group if it does not exist."""
    try:
        await broker.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def main() -> None:
    """Consume until SIGTERM; retry while the broker is unavailable."""
    async with obs.worker(service="audit-ingest", slo_file=str(Path(__file__).with_name("slo.toml"))) as worker:
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            try:
                await ensure_group()
                for entry in await fetch_entries():
                    await handle(entry)
                await update_backlog()
            except (RedisError, OSError) as error:
                log.warning("broker unavailable", error=type(error).__name__)
                await asyncio.sleep(0.5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
