"""A small service around us, from start to stop, and asking it how it is until the answer is the one that is waited for."""

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

Life = Callable[..., AbstractContextManager[tuple[TestClient, Captured]]]


@pytest.fixture
def seen() -> Iterator[Captured]:
    """A capture, in which a test declares checks that end with it."""
    with capture() as found:
        yield found


@pytest.fixture
def life(seen: Captured) -> Life:
    """A service from start to stop, with the checks that were declared before; arguments are settings."""

    @contextmanager
    def live(**settings: Any) -> Iterator[tuple[TestClient, Captured]]:
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, service="lived", **settings)
        with TestClient(app) as client:
            yield client, seen

    return live


def becomes(client: TestClient, status: int, path: str = "/health/ready", seconds: float = 5) -> dict[str, Any]:
    """The body of the first answer with a status."""
    answers = [client.get(path)]

    def answered() -> bool:
        answers.append(client.get(path))
        return answers[-1].status_code == status

    wait_for(answered, seconds, f"{path} is {status}")
    return dict(answers[-1].json())
