"""Keeps what happened: `python worker.py`. Reads a Redis stream with a consumer group; its endpoints are on port 9464."""

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

STREAM, GROUP, DEAD, ME = "audit-events", "audit-ingest", "audit-events-dead", socket.gethostname()
TRAIL = Path(os.environ.get("AUDIT_TRAIL", "audit.jsonl"))
AGAIN_AFTER = int(os.environ.get("AUDIT_AGAIN_AFTER_MS", "30000"))
Entry = tuple[str, dict[str, str]]

# A broker that was restarted leaves connections in the pool that fail when they are used next, and from_url() tries
# nothing again by itself; one that vanished without a word is noticed by the timeout, which is longer than any read.
broker = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    decode_responses=True,
    socket_timeout=2,
    socket_connect_timeout=2,
    retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
)
log = obs.get_logger("audit")
age = obs.histogram(
    "audit.event.age", unit="s", labels=("audit.event",), help="Time from what happened to when it can be looked up."
)
backlog = obs.gauge("audit.backlog", unit="{event}", merge="max", help="Number of events not yet processed.")

obs.readiness_check("broker", scope="shared", interval=1.0)(dependency_checks.redis(broker))
obs.readiness_check("trail")(host_checks.disk(str(TRAIL.resolve().parent), least=10_000_000))


@obs.consumer(STREAM, system="redis", headers=lambda entry: entry[1], rejects=ValueError, timeout=5.0)
async def ingest(entry: Entry) -> None:
    """Keep one event; what is no event is poison: rejected, and no failure of ours."""
    event = parsed(entry[1]["body"])
    await asyncio.to_thread(keep, event)
    happened = datetime.fromisoformat(event["occurredAt"])
    age.record((datetime.now(UTC) - happened).total_seconds(), {"audit.event": event["what"]})
    log.info("kept", event=event["what"])


def parsed(body: str) -> dict[str, Any]:
    """An event with all that one must have."""
    event = json.loads(body)
    if not isinstance(event, dict) or not {"what", "who", "occurredAt"} <= event.keys():
        message = "the event does not say what, who and when"
        raise ValueError(message)
    return event


def keep(event: dict[str, Any]) -> None:
    """Append to the trail, durably."""
    with TRAIL.open("a", encoding="utf-8") as trail:
        trail.write(json.dumps(event) + "\n")
        trail.flush()
        os.fsync(trail.fileno())


async def handle(entry: Entry) -> None:
    """Process an entry and say what becomes of it; what failed stays pending, and is claimed again."""
    try:
        await ingest(entry)
    except ValueError:
        await broker.xadd(DEAD, entry[1])
    except (OSError, TimeoutError):
        return
    await broker.xack(STREAM, GROUP, entry[0])


async def entries() -> list[Entry]:
    """What failed a while ago, then what is new; waits for a moment."""
    _, again, _ = await broker.xautoclaim(STREAM, GROUP, ME, AGAIN_AFTER, count=100)
    fresh = await broker.xreadgroup(GROUP, ME, {STREAM: ">"}, count=100, block=200)
    return [*again, *(entry for _, found in fresh for entry in found)]


async def measure() -> None:
    """Set the backlog: what nobody has read, and what was read and not finished."""
    for group in await broker.xinfo_groups(STREAM):
        if group["name"] == GROUP:
            backlog.set((group["lag"] or 0) + group["pending"])


async def join() -> None:
    """Create the group where it does not exist."""
    try:
        await broker.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as problem:
        if "BUSYGROUP" not in str(problem):
            raise


async def main() -> None:
    """Consume until the platform says to stop; a broker that is away is waited for."""
    async with obs.worker(service="audit-ingest", slo_file=str(Path(__file__).with_name("slo.toml"))) as worker:
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            try:
                await join()
                for entry in await entries():
                    await handle(entry)
                await measure()
            except (RedisError, OSError) as problem:
                log.warning("the broker is away", problem=type(problem).__name__)
                await asyncio.sleep(0.5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
