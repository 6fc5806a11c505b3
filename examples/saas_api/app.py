"""Projects of many tenants: `uvicorn app:app`. A project is built by the factory; who asked for it is kept by the audit."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks

IDENTITY = os.environ.get("IDENTITY_URL", "http://127.0.0.1:8001")
CONFIG = os.environ.get("CONFIG_URL", "http://127.0.0.1:8002")

# A broker that was restarted leaves connections in the pool that fail when they are used next, and from_url() tries
# nothing again by itself. A wish whose confirmation was lost is so sent twice: better than not at all.
broker = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    socket_timeout=2,
    socket_connect_timeout=2,
    retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
)
client = httpx.AsyncClient(timeout=2)
projects: dict[tuple[str, str], dict[str, str]] = {}
log = obs.get_logger("saas")
created = obs.counter(
    "saas.projects",
    unit="{project}",
    labels=("connectsoft.tenant.id",),
    help="Number of projects created, by the tenants that are named in CONNECTSOFT_OBS_METRIC_TENANTS.",
)

obs.readiness_check("broker", scope="shared")(dependency_checks.redis(broker))
obs.readiness_check("identity", critical=False)(dependency_checks.url(f"{IDENTITY}/health/ready", client))
obs.readiness_check("config", critical=False)(dependency_checks.url(f"{CONFIG}/health/ready", client))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Let go of what was opened."""
    yield
    await client.aclose()
    await broker.aclose()


app = FastAPI(title="SaaS", lifespan=lifespan)
app.add_middleware(
    obs.ObservabilityMiddleware,
    service="saas-api",
    tenant_header="X-Tenant-Id",  # on the span and on every line of the request from here on
    metric_tenants=("acme",),  # the others are counted as _OTHER
    slo_file=str(Path(__file__).with_name("slo.toml")),
)


class Wish(BaseModel):
    """What a tenant wants."""

    name: str
    model: str = "well"


async def user(authorization: Annotated[str, Header()] = "") -> str:
    """Who asks, as identity has it."""
    found = await client.get(f"{IDENTITY}/connect/userinfo", headers={"Authorization": authorization})
    if found.status_code == 401:
        raise HTTPException(401, "sign in first")
    return str(found.raise_for_status().json()["sub"])


Tenant = Annotated[str, Header(alias="X-Tenant-Id")]
User = Annotated[str, Depends(user)]


@app.post("/projects", status_code=202)
async def create(wish: Wish, tenant: Tenant, who: User) -> dict[str, str]:
    """Have a project built."""
    flag = await client.get(f"{CONFIG}/config/projects.open")
    if flag.status_code == 200 and flag.json()["value"] != "yes":
        raise HTTPException(409, "no projects are taken at the moment")
    project = uuid.uuid4().hex
    obs.bind(project_id=project)
    projects[tenant, project] = {"id": project, "name": wish.name}
    await publish("factory-runs", {"project": project, "name": wish.name, "model": wish.model})
    await publish("audit-events", {"what": "project.created", "who": who, "project": project})
    created.add(1, {"connectsoft.tenant.id": tenant})
    log.info("project created", name=wish.name)
    return projects[tenant, project]


@app.get("/projects/{project}")
async def show(project: str, tenant: Tenant, who: User) -> dict[str, str]:
    """A project of this tenant; those of others do not exist for it."""
    obs.bind(project_id=project)
    if (tenant, project) not in projects:
        raise HTTPException(404, "there is no such project")
    return {**projects[tenant, project], "asked_by": who}


async def publish(stream: str, event: dict[str, Any]) -> None:
    """Append an event to a stream, with what runs now in its headers."""
    event["occurredAt"] = datetime.now(UTC).isoformat()
    with obs.producer(stream, system="redis") as headers:
        await broker.xadd(stream, {**headers, "body": json.dumps(event)}, maxlen=100_000)
