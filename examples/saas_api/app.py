"""Projects of many tenants: `uvicorn app:app`. The factory builds a project; the audit service records who requested it."""

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

IDENTITY_URL = os.environ.get("IDENTITY_URL", "http://127.0.0.1:8001")
CONFIG_URL = os.environ.get("CONFIG_URL", "http://127.0.0.1:8002")

# After a restart of Redis, pooled connections fail when they are used next, and from_url() does not retry by default.
# If the reply of a write is lost, the retry sends the message twice (at-least-once delivery).
broker = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    socket_timeout=2,
    socket_connect_timeout=2,
    retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
)
client = httpx.AsyncClient(timeout=2)
projects: dict[tuple[str, str], dict[str, str]] = {}
log = obs.get_logger("saas")
projects_created = obs.counter(
    "saas.projects",
    unit="{project}",
    labels=("connectsoft.tenant.id",),
    help="Number of projects created, by the tenants that are listed in CONNECTSOFT_OBS_METRIC_TENANTS.",
)

obs.readiness_check("broker", scope="shared")(dependency_checks.redis(broker))
obs.readiness_check("identity", critical=False)(dependency_checks.url(f"{IDENTITY_URL}/health/ready", client))
obs.readiness_check("config", critical=False)(dependency_checks.url(f"{CONFIG_URL}/health/ready", client))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the connections at shutdown."""
    yield
    await client.aclose()
    await broker.aclose()


app = FastAPI(title="SaaS", lifespan=lifespan)
app.add_middleware(
    obs.ObservabilityMiddleware,
    service="saas-api",
    tenant_header="X-Tenant-Id",  # sets the tenant on the span and on all log lines of the request
    metric_tenants=("acme",),  # all other tenants are counted as _OTHER
    slo_file=str(Path(__file__).with_name("slo.toml")),
)


class ProjectRequest(BaseModel):
    """A request for a project; `model` selects how the simulated model of the factory behaves."""

    name: str
    model: str = "well"


async def current_user(authorization: Annotated[str, Header()] = "") -> str:
    """Authenticate the request with the identity service."""
    response = await client.get(f"{IDENTITY_URL}/connect/userinfo", headers={"Authorization": authorization})
    if response.status_code == 401:
        raise HTTPException(401, "sign in first")
    return str(response.raise_for_status().json()["sub"])


Tenant = Annotated[str, Header(alias="X-Tenant-Id")]
User = Annotated[str, Depends(current_user)]


@app.post("/projects", status_code=202)
async def create_project(request: ProjectRequest, tenant: Tenant, user: User) -> dict[str, str]:
    """Request a new project."""
    flag = await client.get(f"{CONFIG_URL}/config/projects.open")
    if flag.status_code == 200 and flag.json()["value"] != "yes":
        raise HTTPException(409, "new projects are not accepted at the moment")
    project_id = uuid.uuid4().hex
    obs.bind(project_id=project_id)
    projects[tenant, project_id] = {"id": project_id, "name": request.name}
    await publish("factory-runs", {"project": project_id, "name": request.name, "model": request.model})
    await publish("audit-events", {"action": "project.created", "actor": user, "project": project_id})
    projects_created.add(1, {"connectsoft.tenant.id": tenant})
    log.info("project created", name=request.name)
    return projects[tenant, project_id]


@app.get("/projects/{project_id}")
async def get_project(project_id: str, tenant: Tenant, user: User) -> dict[str, str]:
    """Return a project of the tenant; projects of other tenants are answered with 404."""
    obs.bind(project_id=project_id)
    if (tenant, project_id) not in projects:
        raise HTTPException(404, "project does not exist")
    return {**projects[tenant, project_id], "requested_by": user}


async def publish(stream: str, event: dict[str, Any]) -> None:
    """Append an event to a stream; the headers carry the trace context, the correlation id and the tenant."""
    event["occurredAt"] = datetime.now(UTC).isoformat()
    with obs.producer(stream, system="redis") as headers:
        await broker.xadd(stream, {**headers, "body": json.dumps(event)}, maxlen=100_000)
