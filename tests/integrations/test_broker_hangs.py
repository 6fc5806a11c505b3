"""A broker that hangs, and flags that switch heartbeats off, leave the liveness of workers unchanged.

The broker is suspended by SIGSTOP: connections stay open, and nothing replies.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from arq import create_pool
from arq.connections import RedisSettings
from redis import Redis
from rq import Queue
from support import brokers
from support.brokers import Broker
from support.process import APPS, Service, free_port, wait_for
from support.scrape import scrape

from connectsoft_obs.testing import capture
from integrations.test_celery import run_celery, tasks_for
from integrations.test_dramatiq import run_worker as run_dramatiq
from integrations.test_huey import run_consumer as run_huey

LOOP_TIMEOUT = 3.0
"""Seconds without progress after which the workers of these tests are not alive."""

HANG = 8.0
"""Seconds for which the broker hangs; far more than `LOOP_TIMEOUT`, and than one check a second needs."""


@pytest.fixture
def own_redis() -> Iterator[Broker]:
    """A Redis that the test can suspend."""
    with brokers.redis() as broker:
        yield broker


@pytest.fixture
def own_rabbitmq() -> Iterator[Broker]:
    """A RabbitMQ that the test can suspend."""
    with brokers.rabbitmq() as broker:
        yield broker


def status(service: Service, probe: str) -> int:
    return httpx.get(f"{service.url}/health/{probe}", timeout=10).status_code


def assert_alive_for(service: Service, seconds: float) -> None:
    """Probe liveness continuously for a period."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert service.process.poll() is None, service.output[-3000:]
        response = httpx.get(f"{service.url}/health/live", timeout=10)
        assert response.status_code == 200, (response.text, service.output[-3000:])
        time.sleep(0.2)


def finished_runs(service: Service) -> float:
    return scrape(service.url).sum("connectsoft_job_duration_seconds_count")


def assert_alive_while_broker_hangs(service: Service, broker: Broker, send: Callable[[], Any]) -> None:
    """Suspend the broker while a job runs, whose end the worker cannot report then; send another job afterwards."""
    send()
    wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20, "a job runs")
    with broker.suspended():
        assert_alive_for(service, HANG)
    runs = finished_runs(service)
    send()
    wait_for(lambda: finished_runs(service) > runs, 30, f"a job runs after the broker has resumed; {service.output}")
    wait_for(lambda: status(service, "ready") == 200, 20)
    assert status(service, "live") == 200


CELERY_ENV = {"LOOP_TIMEOUT": str(LOOP_TIMEOUT), "BROKER_WAIT_LIMIT": "1"}
WITHOUT_EVENTS = ("--without-heartbeat", "--without-gossip", "--without-mingle")


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("redis", ("-P", "prefork", *WITHOUT_EVENTS)),
        pytest.param("redis", ("-P", "threads", "--without-heartbeat"), marks=pytest.mark.full),
        pytest.param("redis", ("-P", "prefork", "--heartbeat-interval", "120"), marks=pytest.mark.full),
        pytest.param("redis", ("-P", "solo"), marks=pytest.mark.full),
        pytest.param("redis", ("-P", "prefork"), marks=pytest.mark.full),
        pytest.param("rabbitmq", ("-P", "prefork", *WITHOUT_EVENTS), marks=pytest.mark.full),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value[1:]),
)
def test_celery_worker_stays_alive_while_the_broker_hangs(
    system: str, options: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    broker: Broker = request.getfixturevalue(f"own_{system}")
    queue = f"hang-{uuid.uuid4().hex[:8]}"
    env = {**CELERY_ENV, "QUEUE": queue}
    with run_celery(broker.url, "worker", "-c", "1", "-Q", queue, *options, env=env) as service:
        assert_alive_for(service, LOOP_TIMEOUT + 2)
        beat = "connectsoft_job_heartbeat_timestamp_seconds"
        assert scrape(service.url).sum(beat, connectsoft_job_name="celery-worker") > time.time() - 3
        module = tasks_for(broker.url, queue)
        with capture():
            assert_alive_while_broker_hangs(service, broker, lambda: module.sleep_acks_late.delay(2))


def test_celery_readiness_fails_while_the_broker_hangs(own_redis: Broker) -> None:
    queue = f"hang-{uuid.uuid4().hex[:8]}"
    with run_celery(own_redis.url, "worker", "-c", "1", "-Q", queue, env={**CELERY_ENV, "QUEUE": queue}) as service:
        with own_redis.suspended():  # the worker publishes a heartbeat every two seconds
            wait_for(lambda: status(service, "ready") == 503, 20, "readiness fails")
            entries = httpx.get(f"{service.url}/health/ready").json()["entries"]
            assert entries["broker"]["status"] == "Unhealthy"
        wait_for(lambda: status(service, "ready") == 200, 20, "readiness passes again")


@pytest.mark.full
def test_celery_worker_with_a_blocking_transport_stays_alive(tmp_path: Path) -> None:
    env = {**CELERY_ENV, "BROKER_DIRECTORY": str(tmp_path)}
    with run_celery("filesystem://", "worker", "-P", "threads", *WITHOUT_EVENTS, env=env) as service:
        assert_alive_for(service, LOOP_TIMEOUT + 2)


def test_celery_worker_is_alive_and_not_ready_before_its_broker_answers() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with run_celery(url, "worker", "-P", "threads", env=CELERY_ENV, ready=False) as service:
        wait_for(lambda: status(service, "live") == 200, 40, "liveness passes")
        assert_alive_for(service, LOOP_TIMEOUT + 2)
        assert status(service, "ready") == 503


def test_celery_worker_with_a_blocked_main_loop_is_not_alive(redis: Broker) -> None:
    queue = f"hang-{uuid.uuid4().hex[:8]}"
    env = {**CELERY_ENV, "QUEUE": queue, "BLOCK_MAIN_LOOP": "1"}
    with run_celery(redis.url, "worker", "-c", "1", "-Q", queue, env=env) as service:
        module = tasks_for(redis.url, queue)
        with capture():
            module.add.delay(1, 2)
        wait_for(lambda: status(service, "live") == 503, 30, "liveness fails")


@pytest.mark.full
def test_celery_task_of_the_solo_pool_can_take_longer_than_the_limit(redis: Broker) -> None:
    queue = f"hang-{uuid.uuid4().hex[:8]}"
    with run_celery(redis.url, "worker", "-P", "solo", "-Q", queue, env={**CELERY_ENV, "QUEUE": queue}) as service:
        module = tasks_for(redis.url, queue)
        with capture():
            module.sleep_acks_late.delay(LOOP_TIMEOUT + 3)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20)
        assert_alive_for(service, LOOP_TIMEOUT + 2)
        wait_for(lambda: finished_runs(service) == 1, 20)
        assert status(service, "live") == 200


@pytest.mark.full
def test_celery_beat_stays_alive_while_the_broker_hangs(own_redis: Broker, tmp_path: Path) -> None:
    env = {**CELERY_ENV, "QUEUE": f"hang-{uuid.uuid4().hex[:8]}"}
    options = ("-s", str(tmp_path / "schedule"), "--max-interval", "1")
    with run_celery(own_redis.url, "beat", *options, env=env) as service, own_redis.suspended():
        wait_for(lambda: status(service, "ready") == 503, 20, "readiness fails")
        assert_alive_for(service, HANG)


@pytest.mark.parametrize("worker_type", ["fork", pytest.param("simple", marks=pytest.mark.full)])
def test_rq_worker_stays_alive_while_the_broker_hangs(own_redis: Broker, worker_type: str) -> None:
    queue, port = Queue("hang", connection=Redis.from_url(own_redis.url)), free_port()
    env = {
        "BROKER": own_redis.url,
        "QUEUE": queue.name,
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        "JOB_MONITORING_INTERVAL": "1",
        "WORKER_TTL": "16",  # RQ waits for jobs for 15 s less
        "HEARTBEAT_TIMEOUT": str(LOOP_TIMEOUT - 16),
    }
    with Service([sys.executable, str(APPS / "rq_jobs.py"), worker_type], port, env) as service:
        service.wait_until_ready(seconds=20)
        assert_alive_while_broker_hangs(service, own_redis, lambda: queue.enqueue("rq_jobs.sleep", 2))


def worker_env(broker: Broker, port: int) -> dict[str, str]:
    return {
        "BROKER": broker.url,
        "BROKER_PORT": str(broker.port),
        "QUEUE": "hang",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        "CONNECTSOFT_OBS_LIVENESS_STALL": str(LOOP_TIMEOUT),
    }


@pytest.mark.full
def test_arq_worker_stays_alive_while_the_broker_hangs(own_redis: Broker) -> None:
    port = free_port()

    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(own_redis.url), default_queue_name="hang")
        await pool.enqueue_job("slow")
        await pool.aclose(close_connection_pool=True)

    command = [sys.executable, "-m", "arq", "arq_jobs.WorkerSettings"]
    with Service(command, port, worker_env(own_redis, port)) as service:
        service.wait_until_ready(seconds=20)
        runs = finished_runs(service)
        with own_redis.suspended():
            assert_alive_for(service, HANG)
        asyncio.run(send())
        wait_for(lambda: finished_runs(service) > runs, 30, f"a job runs after the hang; {service.output}")


def test_taskiq_worker_stays_alive_while_the_broker_hangs(own_redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    env = worker_env(own_redis, port)
    for name in ("BROKER", "QUEUE"):
        monkeypatch.setenv(name, env[name])
    monkeypatch.delitem(sys.modules, "taskiq_tasks", raising=False)
    import taskiq_tasks as tasks

    async def send() -> None:
        await tasks.broker.startup()
        await tasks.add.kiq(1, 2)
        await tasks.broker.shutdown()

    command = [sys.executable, "-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1"]
    with Service(command, port, env) as service:
        service.wait_until_ready(seconds=20)
        with own_redis.suspended():
            assert_alive_for(service, HANG)
        with capture():
            asyncio.run(send())
        wait_for(lambda: finished_runs(service) == 1, 30, f"a task runs after the hang; {service.output}")


@pytest.mark.full
def test_faststream_stays_alive_while_the_broker_hangs(own_rabbitmq: Broker) -> None:
    port = free_port()
    command = [sys.executable, "-m", "faststream", "run", "faststream_app:app"]
    with Service(command, port, worker_env(own_rabbitmq, port)) as service:
        service.wait_until_ready(seconds=20)
        with own_rabbitmq.suspended():
            assert_alive_for(service, HANG)


def test_apscheduler_stays_alive_while_its_job_store_hangs(own_redis: Broker) -> None:
    port = free_port()
    env = worker_env(own_redis, port)
    with Service([sys.executable, str(APPS / "apscheduler_redis.py")], port, env) as service:
        service.wait_until_ready(seconds=20)
        wait_for(lambda: finished_runs(service) >= 1, 20, "a job runs")
        with own_redis.suspended():
            assert_alive_for(service, HANG)
        runs = finished_runs(service)
        wait_for(lambda: finished_runs(service) > runs, 30, f"a job runs after the hang; {service.output}")


def test_dramatiq_readiness_fails_while_threads_wait_to_acknowledge(
    own_redis: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--processes", "1", "--threads", "1")
    tasks, worker = run_dramatiq(own_redis, monkeypatch, *options, BROKER_WAIT_LIMIT="1")
    with worker as service:
        service.wait_until_ready(seconds=30)
        with capture():
            tasks.sleep.send(1)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20, "a message is processed")
        with own_redis.suspended():
            wait_for(lambda: status(service, "ready") == 503, 20, "readiness fails")
            assert httpx.get(f"{service.url}/health/ready").json()["entries"]["broker"]["status"] == "Unhealthy"
            assert status(service, "live") == 200
        wait_for(lambda: status(service, "ready") == 200, 20, "readiness passes again")
        assert finished_runs(service) == 1


@pytest.mark.full
def test_dramatiq_worker_stays_alive_while_the_broker_hangs(own_redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, worker = run_dramatiq(own_redis, monkeypatch, LOOP_TIMEOUT=str(LOOP_TIMEOUT))
    with worker as service:
        service.wait_until_ready(seconds=30)
        with capture():
            assert_alive_while_broker_hangs(service, own_redis, lambda: tasks.sleep.send(2))


@pytest.mark.full
def test_huey_consumer_stays_alive_while_the_storage_hangs(own_redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, consumer = run_huey(
        own_redis, monkeypatch, "thread", LOOP_TIMEOUT=str(LOOP_TIMEOUT), BROKER_WAIT_LIMIT=str(LOOP_TIMEOUT)
    )
    with consumer as service:
        service.wait_until_ready(seconds=30)
        with own_redis.suspended():
            wait_for(lambda: status(service, "ready") == 503, 20, "readiness fails")
            assert_alive_for(service, HANG)
        wait_for(lambda: status(service, "ready") == 200, 20, "readiness passes again")
        with capture():
            tasks.add(1, 2)
        wait_for(lambda: "run huey_tasks.add success" in service.output, 30, f"a task runs; {service.output}")
        own_redis.process.kill()
        wait_for(lambda: status(service, "ready") == 503, 20, "readiness fails")
        assert status(service, "live") == 200


@pytest.mark.full
def test_huey_consumer_with_a_blocked_scheduler_is_not_alive(
    own_redis: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, consumer = run_huey(own_redis, monkeypatch, "thread", LOOP_TIMEOUT=str(LOOP_TIMEOUT), BLOCK_SCHEDULER="1")
    with consumer as service:
        wait_for(lambda: status(service, "live") == 503, 30, "liveness fails")


@pytest.mark.full
def test_huey_consumer_that_is_started_without_run_stays_alive(own_redis: Broker) -> None:
    port = free_port()
    env = {**worker_env(own_redis, port), "LOOP_TIMEOUT": str(LOOP_TIMEOUT)}
    program = "import huey_tasks, time; huey_tasks.huey.create_consumer().start(); time.sleep(60)"
    with Service([sys.executable, "-c", program], port, env) as service:
        service.wait_until_ready(seconds=30)
        assert_alive_for(service, LOOP_TIMEOUT + 3)
