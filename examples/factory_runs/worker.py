"""Builds projects: `python worker.py`. A run has steps, retries and a timeout; the endpoints are on port 9464.

The field `model` of a request selects how the simulated model behaves, so that every outcome can be produced: "well";
"refused once" (the retry succeeds); "broken" (every attempt fails); "slow" (exceeds the timeout); "nothing" (skipped).
Requests that are invalid or fail unexpectedly are moved to a dead letter stream. A run that was killed is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, ResponseError

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks

STREAM, DEAD_LETTER_STREAM = "factory-runs", "factory-runs-dead"
GROUP, CONSUMER = "factory", os.environ.get("FACTORY_CONSUMER", "factory-0")
MAX_ATTEMPTS = 3
RUN_TIMEOUT = float(os.environ.get("FACTORY_TIMEOUT", "60"))
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
log = obs.get_logger("factory")
obs.readiness_check("broker", scope="shared", interval=1.0)(dependency_checks.redis(broker))


class ModelRefusedError(Exception):
    """The model refused to answer."""


@obs.consumer(STREAM, system="redis", headers=lambda entry: entry[1], rejects=ValueError)
async def consume(entry: Entry) -> None:
    """Run the factory for one message."""
    request = parse_request(entry[1].get("body", ""))
    await factory_run(request, request.get("model", "well"))


def parse_request(body: str) -> dict[str, str]:
    """Decode a request and check its fields."""
    try:
        request = json.loads(body)
    except RecursionError:
        message = "the request is nested too deeply"
        raise ValueError(message) from None
    if not isinstance(request, dict) or not all(isinstance(request.get(name), str) for name in ("project", "name")):
        message = "a request needs project and name"
        raise ValueError(message)
    return request


@obs.job("factory-run", trigger="queue", timeout=RUN_TIMEOUT)
async def factory_run(request: dict[str, str], model: str) -> None:
    """Build an artifact for a request. The SLO of 95 % counts these runs, not the attempts within them."""
    obs.bind(execution_id=uuid.uuid4().hex, project_id=request["project"], workflow_id="new-project")
    if model == "nothing":
        obs.skip("there is nothing to build")
        return
    await plan(request)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            artifact = await generate(model, attempt)
            break
        except ModelRefusedError:
            if attempt == MAX_ATTEMPTS:
                raise
    obs.bind(artifact_id=artifact)
    await publish({"action": "artifact.built", "actor": "factory", "project": request["project"]})
    log.info("artifact built")


@obs.job("plan")
async def plan(request: dict[str, str]) -> None:
    """Plan the project. Agent and skill are attributes of this step's span and log lines, and labels of no metric."""
    obs.bind(agent_id="architect", skill_id="plan")
    log.info("planned", name=request["name"])


@obs.job("generate", attempt="attempt", attempts=MAX_ATTEMPTS)
async def generate(model: str, attempt: int) -> str:
    """Call the model. A failed attempt that is followed by another one counts as a retry, not as a failure."""
    obs.bind(agent_id="developer", skill_id="generate")
    with obs.genai_call("example-1", provider="example") as call:
        if model == "slow":
            await asyncio.sleep(3600)
        if model == "broken" or (model == "refused once" and attempt == 1):
            message = "the model refused"
            raise ModelRefusedError(message)
        call.set_usage(input_tokens=1200, output_tokens=345)
    return uuid.uuid4().hex


async def publish(event: dict[str, Any]) -> None:
    """Send an event to the audit service."""
    event["occurredAt"] = datetime.now(UTC).isoformat()
    with obs.producer("audit-events", system="redis") as headers:
        await broker.xadd("audit-events", {**headers, "body": json.dumps(event)}, maxlen=100_000)


async def handle(entry: Entry) -> None:
    """Process an entry and acknowledge it. A failed run is repeated only if the broker was unavailable."""
    try:
        await consume(entry)
    except (ModelRefusedError, TimeoutError) as error:
        log.info("run failed, not retried", error=type(error).__name__)
    except RedisError:  # the event was not published; the run is repeated when the broker is available
        raise
    except Exception as error:  # noqa: BLE001  repeating it would fail again
        await move_to_dead_letters(entry, error)
        return
    await acknowledge(entry)


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
    """Read an entry whose run was interrupted, else a new one; blocks for up to 200 ms."""
    for start in ("0", ">"):
        streams = await broker.xreadgroup(GROUP, CONSUMER, {STREAM: start}, count=1, block=200)
        if entries := [(identifier, fields or {}) for _, stream in streams for identifier, fields in stream]:
            return entries
    return []


async def ensure_group() -> None:
    """Create the consumer group if it does not exist."""
    try:
        await broker.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def main() -> None:
    """Consume until SIGTERM; the drain timeout lets an active run complete."""
    slo_file = str(Path(__file__).with_name("slo.toml"))
    async with obs.worker(service="factory-runs", slo_file=slo_file, drain_timeout=RUN_TIMEOUT + 5) as worker:
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            try:
                await ensure_group()
                for entry in await fetch_entries():
                    await handle(entry)
            except (RedisError, OSError) as error:
                log.warning("broker unavailable", error=type(error).__name__)
                await asyncio.sleep(0.5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
