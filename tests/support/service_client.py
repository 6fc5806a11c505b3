"""Fixtures and helpers that run a small instrumented service and poll its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture
from support.process import wait_for

RunService = Callable[..., AbstractContextManager[tuple[TestClient, Captured]]]


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A capture of telemetry; health checks that the test declares are removed when it ends."""
    with capture() as active_capture:
        yield active_capture


@pytest.fixture
def run_service(captured: Captured) -> RunService:
    """A factory of context managers that run a service with the checks declared before; its arguments are settings."""

    @contextmanager
    def run(**settings: Any) -> Iterator[tuple[TestClient, Captured]]:
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, service="health-service", **settings)
        with TestClient(app) as client:
            yield client, captured

    return run


def wait_for_status(client: TestClient, status: int, path: str = "/health/ready", seconds: float = 5) -> dict[str, Any]:
    """Poll a path until it answers with a status, and return the body of that response."""
    responses = [client.get(path)]

    def has_status() -> bool:
        responses.append(client.get(path))
        return responses[-1].status_code == status

    wait_for(has_status, seconds, f"{path} answers {status}")
    return dict(responses[-1].json())
