"""Vital tasks: a process that has lost one answers 503 to liveness, and one that stops does not."""

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
from support.service_client import becomes

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
    """A service with a poller in its lifespan, and what sets it to work."""
    go: list[Callable[[], object]] = []

    async def poller(event: asyncio.Event) -> None:
        await event.wait()
        await work()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        task = obs.liveness_task("poller", asyncio.create_task(poller(event)))
        go.append(lambda: loop.call_soon_threadsafe(event.set))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = Starlette(lifespan=lifespan)
    app.add_middleware(obs.ObservabilityMiddleware, service="lived", environment="development")
    return app, lambda: go[-1]()


@pytest.mark.parametrize(
    ("work", "why"),
    [(fails, "ended with LookupError: the cursor is lost"), (returns, "has ended"), (cancels, "was cancelled")],
)
def test_liveness_fails_when_a_vital_task_ends_however_it_does(work: Any, why: str, seen: Any) -> None:
    app, go = service(work)
    with TestClient(app) as client:
        becomes(client, 200)
        assert client.get("/health/live").status_code == 200
        go()
        body = becomes(client, 503, "/health/live")
        assert body["entries"]["poller"]["description"] == why
        assert client.get("/health/ready").status_code == 200
        wait_for(lambda: [line for line in seen.logs if line.get("cause") == f"poller: {why}"])


def test_a_service_that_stops_may_end_its_vital_tasks_and_start_again(seen: Any) -> None:
    app, _ = service(returns)
    for _ in range(2):
        with TestClient(app) as client:
            becomes(client, 200)
            assert client.get("/health/live").status_code == 200
    assert not [line for line in seen.logs if line["message"] == "liveness is unhealthy"]


def test_a_vital_thread_or_future_is_watched_as_well(life: Any) -> None:
    end = threading.Event()
    with life(environment="development") as (client, _):
        thread = obs.liveness_task("thread", threading.Thread(target=end.wait, daemon=True))
        future: Future[None] = obs.liveness_task("future", Future())
        assert client.get("/health/live").status_code == 200
        thread.start()
        assert client.get("/health/live").status_code == 200
        end.set()
        assert becomes(client, 503, "/health/live")["entries"]["thread"]["description"] == "has ended"
        future.set_exception(ValueError("broken"))
        wait_for(lambda: client.get("/health/live").json()["entries"].get("future"))


def test_asyncio_still_reports_the_exception_that_nobody_retrieved(seen: Any) -> None:
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


def test_what_cannot_end_is_refused(seen: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="it cannot be asked whether it has ended"):
        obs.liveness_task("poller", fails)
