"""Liveness watches: liveness fails when a watched task has ended, unless the service is stopping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.process import wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health import Probe


async def fails() -> None:
    msg = "the cursor is lost"
    raise LookupError(msg)


async def returns() -> None:
    return None


async def cancels() -> None:
    raise asyncio.CancelledError


def service(work: Callable[[], Awaitable[None]]) -> tuple[Starlette, Callable[[], object]]:
    """A service with a watched poller task in its lifespan, and a function that lets the poller run `work`."""
    start_functions: list[Callable[[], object]] = []

    async def poller(event: asyncio.Event) -> None:
        await event.wait()
        await work()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        task = obs.liveness_task("poller", asyncio.create_task(poller(event)))
        start_functions.append(lambda: loop.call_soon_threadsafe(event.set))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = Starlette(lifespan=lifespan)
    app.add_middleware(obs.ObservabilityMiddleware, service="watched", environment="development")
    return app, lambda: start_functions[-1]()


@pytest.mark.parametrize(
    ("work", "reason"),
    [(fails, "ended with LookupError: the cursor is lost"), (returns, "has ended"), (cancels, "was cancelled")],
)
def test_liveness_fails_when_a_watched_task_ends(work: Any, reason: str, captured: Any) -> None:
    app, start_work = service(work)
    with TestClient(app) as client:
        wait_for_status(client, 200)
        assert client.get("/health/live").status_code == 200
        start_work()
        body = wait_for_status(client, 503, "/health/live")
        assert body["entries"]["poller"]["description"] == reason
        assert client.get("/health/ready").status_code == 200
        wait_for(
            lambda: [line for line in captured.logs if line.get("connectsoft.health.cause") == f"poller: {reason}"]
        )


def test_watched_tasks_may_end_while_the_service_stops(captured: Any) -> None:
    app, _ = service(returns)
    for _ in range(2):
        with TestClient(app) as client:
            wait_for_status(client, 200)
            assert client.get("/health/live").status_code == 200
    assert not [line for line in captured.logs if line["message"] == "liveness is unhealthy"]


def test_threads_and_futures_can_be_watched(run_service: Any) -> None:
    released = threading.Event()
    with run_service(environment="development") as (client, _):
        thread = obs.liveness_task("thread", threading.Thread(target=released.wait, daemon=True))
        future: Future[None] = obs.liveness_task("future", Future())
        assert client.get("/health/live").status_code == 200
        thread.start()
        assert client.get("/health/live").status_code == 200
        released.set()
        assert wait_for_status(client, 503, "/health/live")["entries"]["thread"]["description"] == "has ended"
        future.set_exception(ValueError("broken"))
        wait_for(lambda: client.get("/health/live").json()["entries"].get("future"))


def test_watching_a_task_does_not_mark_its_exception_as_retrieved(captured: Any) -> None:
    reported: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        health = obs.configure(service="a").health
        task = obs.liveness_task("poller", asyncio.create_task(fails()))
        health.start()
        await asyncio.wait([task])
        assert health.report(Probe.LIVENESS).cause == "poller: ended with LookupError: the cursor is lost"
        health.stop()
        del task

    asyncio.run(main())
    assert "never retrieved" in reported[0]["message"]


def test_object_that_cannot_end_is_rejected(captured: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="expected an asyncio task, a future, a thread or a process"):
        obs.liveness_task("poller", fails)
