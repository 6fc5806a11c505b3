"""Builds projects: `python worker.py`. A run has steps, tries again, and gives up; its endpoints are on port 9464.

The wish says how the model behaves, so that each ending can be seen: "well"; "refused once", which is tried again;
"broken", which fails each time; "slow", which takes too long; "nothing", where there is nothing to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
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

STREAM, GROUP, ME = "factory-runs", "factory", socket.gethostname()
ATTEMPTS = 3
TIMEOUT = float(os.environ.get("FACTORY_TIMEOUT", "60"))
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
log = obs.get_logger("factory")
obs.readiness_check("broker", scope="shared", interval=1.0)(dependency_checks.redis(broker))


class RefusedError(Exception):
    """The model would not answer."""


@obs.consumer(STREAM, system="redis", headers=lambda entry: entry[1], rejects=ValueError)
async def take(entry: Entry) -> None:
    """Take a wish from the queue."""
    wish = json.loads(entry[1]["body"])
    await factory_run(wish, wish.get("model", "well"))


@obs.job("factory-run", trigger="queue", timeout=TIMEOUT)
async def factory_run(wish: dict[str, Any], model: str) -> None:
    """One run, from the wish to the artifact: what the promise of 95 % counts."""
    obs.bind(execution_id=uuid.uuid4().hex, project_id=wish["project"], workflow_id="new-project")
    if model == "nothing":
        obs.skip("there is nothing to build")
        return
    await plan(wish)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            artifact = await generate(model, attempt)
            break
        except RefusedError:
            if attempt == ATTEMPTS:
                raise
    obs.bind(artifact_id=artifact)
    await publish({"what": "artifact.built", "who": "factory", "project": wish["project"]})
    log.info("built")


@obs.job("plan")
async def plan(wish: dict[str, Any]) -> None:
    """Decide what to build. Agent and skill are on this step's span and lines, and on no metric."""
    obs.bind(agent_id="architect", skill_id="plan")
    log.info("planned", name=wish["name"])


@obs.job("generate", attempt="attempt", attempts=ATTEMPTS)
async def generate(model: str, attempt: int) -> str:
    """Ask the model; a refusal that is tried again is a retry and no failure."""
    obs.bind(agent_id="developer", skill_id="generate")
    with obs.genai_call("example-1", provider="example") as call:
        if model == "slow":
            await asyncio.sleep(3600)
        if model == "broken" or (model == "refused once" and attempt == 1):
            message = "the model refused"
            raise RefusedError(message)
        call.set_usage(input_tokens=1200, output_tokens=345)
    return uuid.uuid4().hex


async def publish(event: dict[str, Any]) -> None:
    """Tell the audit."""
    event["occurredAt"] = datetime.now(UTC).isoformat()
    with obs.producer("audit-events", system="redis") as headers:
        await broker.xadd("audit-events", {**headers, "body": json.dumps(event)}, maxlen=100_000)


async def handle(entry: Entry) -> None:
    """Run, and acknowledge whatever the ending: a run is not begun again by itself."""
    try:
        await take(entry)
    except (RefusedError, RedisError, TimeoutError, ValueError) as problem:
        log.info("given up", problem=type(problem).__name__)
    await broker.xack(STREAM, GROUP, entry[0])


async def join() -> None:
    """Create the group where it does not exist."""
    try:
        await broker.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as problem:
        if "BUSYGROUP" not in str(problem):
            raise


async def main() -> None:
    """Run until the platform says to stop; a run that has begun is waited for."""
    slo_file = str(Path(__file__).with_name("slo.toml"))
    async with obs.worker(service="factory-runs", slo_file=slo_file, drain_timeout=TIMEOUT + 5) as worker:
        while not worker.draining:
            obs.heartbeat("consume", every=30)
            try:
                await join()
                found = await broker.xreadgroup(GROUP, ME, {STREAM: ">"}, count=1, block=200)
                for _, entries in found:
                    for entry in entries:
                        await handle(entry)
            except (RedisError, OSError) as problem:
                log.warning("the broker is away", problem=type(problem).__name__)
                await asyncio.sleep(0.5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
