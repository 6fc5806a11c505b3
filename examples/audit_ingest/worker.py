"""Stores audit events: `python worker.py`. Reads a Redis stream with a consumer group; the endpoints are on port 9464.

Each event is in the trail once, in the order of the stream, also if the process is killed at any point: entries that are
not acknowledged are read again under the same consumer name, and the trail names the last entry that it contains.
One process writes a trail.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
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
GROUP, CONSUMER = "audit-ingest", os.environ.get("AUDIT_CONSUMER", "audit-ingest-0")
REQUIRED_FIELDS = ("action", "actor", "occurredAt")
AUDIT_TRAIL = Path(os.environ.get("AUDIT_TRAIL", "audit.jsonl"))
RETRY_DELAY = 0.5
Entry = tuple[str, dict[str, str]]

# After a restart of Redis, pooled connections fail when they are used next, and from_url() does not retry by default.
# The socket timeout, which is longer than any blocking read, detects connections that were lost without being closed.
broker = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    decode_responses=True,
    encoding_errors="surrogateescape",  # text that is not UTF-8 is an invalid message and not an error of the read
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
    event = parse_event(entry[1].get("body", ""))
    await asyncio.to_thread(trail.append, entry[0], event)
    occurred = datetime.fromisoformat(event["occurredAt"])
    event_age.record((datetime.now(UTC) - occurred).total_seconds(), {"audit.event": event["action"]})
    log.info("event stored", event=event["action"])


def parse_event(body: str) -> dict[str, Any]:
    """Decode an event and check its required fields."""
    try:
        event = json.loads(body)
    except RecursionError:
        message = "the event is nested too deeply"
        raise ValueError(message) from None
    if not isinstance(event, dict) or not all(isinstance(event.get(name), str) for name in REQUIRED_FIELDS):
        message = f"an event needs {', '.join(REQUIRED_FIELDS)}"
        raise ValueError(message)
    if datetime.fromisoformat(event["occurredAt"]).tzinfo is None:
        message = "occurredAt needs a time zone"
        raise ValueError(message)
    return event


class AuditTrail:
    """A file with one event per line, each with the id of its stream entry. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._last_id = (0, 0)

    def open(self) -> None:
        """Remove an incomplete last line, and read the id of the last event."""
        content = self._path.read_bytes() if self._path.exists() else b""
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            os.truncate(self._path, len(complete))
        if complete:
            self._last_id = parse_id(json.loads(complete.splitlines()[-1])["id"])

    def append(self, entry_id: str, event: dict[str, Any]) -> None:
        """Append an event and flush it to disk, unless the file contains it."""
        with self._lock:
            if parse_id(entry_id) <= self._last_id:
                return
            line = json.dumps({**event, "id": entry_id}).encode() + b"\n"
            with self._path.open("ab") as file:
                size = file.tell()
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self._path, size)
                    raise
            self._last_id = parse_id(entry_id)


def parse_id(entry_id: str) -> tuple[int, int]:
    """The milliseconds and the sequence number of an entry id, which increase in a stream."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


trail = AuditTrail(AUDIT_TRAIL)


async def handle(entry: Entry) -> bool:
    """Process an entry; False if it must be repeated before later entries, because storing it has failed."""
    try:
        await ingest(entry)
    except (OSError, TimeoutError, RedisError):
        return False
    except Exception as error:  # noqa: BLE001  a repetition would fail again and delay later events
        await move_to_dead_letters(entry, error)
    else:
        await acknowledge(entry)
    return True


async def acknowledge(entry: Entry) -> None:
    """Remove an entry from the pending ones."""
    await broker.xack(STREAM, GROUP, entry[0])


async def move_to_dead_letters(entry: Entry, error: Exception) -> None:
    """Copy an entry to the dead letter stream and acknowledge it, in one transaction."""
    async with broker.pipeline(transaction=True) as transaction:
        transaction.xadd(
            DEAD_LETTER_STREAM, {**entry[1], "entry": entry[0], "error": f"{type(error).__name__}: {error}"}
        )
        transaction.xack(STREAM, GROUP, entry[0])
        await transaction.execute()


async def fetch_entries() -> list[Entry]:
    """Read entries that are not acknowledged, then new ones; blocks for up to 200 ms."""
    for start in ("0", ">"):
        streams = await broker.xreadgroup(GROUP, CONSUMER, {STREAM: start}, count=100, block=200)
        if entries := [(identifier, fields or {}) for _, stream in streams for identifier, fields in stream]:
            return entries
    return []


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
        trail.open()
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            try:
                await ensure_group()
                for entry in await fetch_entries():
                    if not await handle(entry):
                        await asyncio.sleep(RETRY_DELAY)
                        break
                    if worker.draining:
                        break
                await update_backlog()
            except (RedisError, OSError) as error:
                log.warning("broker unavailable", error=type(error).__name__)
                await asyncio.sleep(RETRY_DELAY)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
