"""Liveness of Dramatiq workers: pauses, ended threads, blocked threads, and workers that stop before their process."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
import httpx
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.threading import raise_thread_exception
from dramatiq.worker import Worker, WorkerThread
from support.brokers import Broker
from support.process import free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.integrations import dramatiq as integration
from connectsoft_obs.testing import capture

LOOP_TIMEOUT = 1.0
"""Seconds without progress after which the workers of these tests are not alive."""

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def broker(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> RedisBroker:
    """A broker with the integration installed."""
    monkeypatch.setattr(integration, "LOOP_TIMEOUT", LOOP_TIMEOUT)
    broker = RedisBroker(url=redis.url, namespace=f"dramatiq-{uuid.uuid4().hex[:8]}")  # type: ignore[no-untyped-call]
    broker.declare_queue("default")
    integration.install(broker)
    return broker


@contextmanager
def running(broker: RedisBroker, port: int) -> Iterator[Worker]:
    """Run a worker in this process."""
    worker = Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200, 20)
        yield worker
    finally:
        worker.stop()


def liveness(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=10)


def assert_alive_beyond_limit(port: int) -> None:
    """Probe liveness for longer than the limit and two checks of the monitor."""
    deadline = time.monotonic() + LOOP_TIMEOUT + 3
    while time.monotonic() < deadline:
        response = liveness(port)
        assert response.status_code == 200, response.text
        time.sleep(0.1)


def test_paused_dramatiq_worker_stays_alive(broker: RedisBroker) -> None:
    port = free_port()
    with capture(prometheus_port=port), running(broker, port) as worker:
        worker.pause()
        assert_alive_beyond_limit(port)
        worker.resume()


@pytest.mark.parametrize("kind", ["WorkerThread", "ConsumerThread"])
def test_dramatiq_worker_with_an_ended_thread_is_not_alive(broker: RedisBroker, kind: str) -> None:
    port = free_port()
    with capture(prometheus_port=port), running(broker, port) as worker:
        threads = worker.workers if kind == "WorkerThread" else worker.consumers.values()
        raise_thread_exception(next(iter(threads)).ident, SystemExit)  # type: ignore[no-untyped-call]
        wait_for(lambda: liveness(port).status_code == 503, 20, "liveness fails")
        assert liveness(port).json()["entries"]["dramatiq-threads"]["status"] == "Unhealthy"


def test_dramatiq_worker_whose_threads_are_blocked_is_not_alive(broker: RedisBroker) -> None:
    is_over, port = threading.Event(), free_port()

    class BlockingMiddleware(dramatiq.Middleware):
        def after_worker_thread_boot(self, broker: dramatiq.Broker, thread: WorkerThread) -> None:
            is_over.wait(60)

    broker.add_middleware(BlockingMiddleware())
    with capture(prometheus_port=port), running(broker, port):
        wait_for(lambda: liveness(port).status_code == 503, 20, "liveness fails")
        is_over.set()


def test_process_stays_alive_after_its_dramatiq_worker_has_stopped(broker: RedisBroker) -> None:
    port = free_port()
    with capture(prometheus_port=port), obs.worker():
        with running(broker, port):
            pass
        assert_alive_beyond_limit(port)
