"""Two workers, brokers, schedulers or clients of one framework in one process; each records its own work once."""

from __future__ import annotations

import asyncio
import pickle
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import dramatiq
import httpx
import pytest
import rq_jobs
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from arq.connections import RedisSettings, create_pool
from arq.worker import create_worker, func
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.storage.queue import QueueClient
from dramatiq.brokers.redis import RedisBroker as RedisTaskBroker
from dramatiq.worker import Worker as TaskWorker
from faststream import FastStream
from faststream.redis import RedisBroker
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from support import brokers
from support.brokers import Broker
from support.process import free_port, wait_for
from support.servicebus import servicebus
from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler, arq, faststream, rq, storagequeue, taskiq
from connectsoft_obs.integrations import dramatiq as dramatiq_integration
from connectsoft_obs.integrations import servicebus as servicebus_integration
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured

number_installed = pytest.mark.parametrize("installed", [1, 2])
"""Whether the integration is installed for the first one only or for both."""


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def own_spans(captured: Captured) -> list[Any]:
    """Spans without those of clients, which are instrumented if another test of the process has configured telemetry."""
    return [span for span in captured.spans if span.name.startswith(("run ", "send ", "process "))]


def span_names(captured: Captured) -> Counter[str]:
    return Counter(span.name for span in own_spans(captured))


@number_installed
def test_two_rq_workers_record_their_own_jobs_once(installed: int, redis: Broker) -> None:
    connection = Redis.from_url(redis.url)
    names = [unique("rq"), unique("rq")]
    workers = [SimpleWorker([Queue(name, connection=connection)], connection=connection) for name in names]
    with capture(prometheus_port=0) as captured:
        for worker in workers[:installed]:
            rq.install(worker)
            rq.install(worker)
        for name in names:
            Queue(name, connection=connection).enqueue(rq_jobs.add, 1, 2)
        for worker in workers:
            worker.work(burst=True, logging_level="WARNING")
    destinations = [span.attributes["messaging.destination.name"] for span in own_spans(captured)]
    assert destinations == names[:installed]
    assert span_names(captured) == {"run rq_jobs.add": installed}
    assert captured.metric("connectsoft.job.duration").count == installed
    assert captured.metric("connectsoft.job.active").value == 0


def test_rq_worker_that_shares_its_queue_with_an_instrumented_one_records_nothing(redis: Broker) -> None:
    connection = Redis.from_url(redis.url)
    queue = Queue(unique("rq"), connection=connection)
    observed, other = (SimpleWorker([queue], connection=connection) for _ in range(2))
    with capture(prometheus_port=0) as captured:
        rq.install(observed)
        for worker, runs in ((other, 0), (observed, 1), (other, 1), (observed, 2)):
            Queue(queue.name, connection=connection).enqueue(rq_jobs.add, 1, 2)
            worker.work(burst=True, logging_level="WARNING")
            assert span_names(captured)["run rq_jobs.add"] == runs


class CountingJob(Job):
    performed: Counter[str] = Counter()

    def perform(self) -> Any:
        self.performed[str(self.origin)] += 1
        return super().perform()


def test_rq_worker_keeps_its_job_class(redis: Broker) -> None:
    connection = Redis.from_url(redis.url)
    names = [unique("rq"), unique("rq")]
    with capture(prometheus_port=0) as captured:
        for name, job_class in zip(names, (CountingJob, Job), strict=True):
            worker = SimpleWorker([Queue(name, connection=connection)], connection=connection, job_class=job_class)
            rq.install(worker)
            assert issubclass(pickle.loads(pickle.dumps(worker.job_class)), job_class)  # noqa: S301
            Queue(name, connection=connection).enqueue(rq_jobs.add, 1, 2)
            worker.work(burst=True, logging_level="WARNING")
    assert span_names(captured) == {"run rq_jobs.add": 2}
    assert (CountingJob.performed[names[0]], CountingJob.performed[names[1]]) == (1, 0)


def test_rq_worker_that_is_started_twice_serves_endpoints_twice(redis: Broker) -> None:
    connection, port = Redis.from_url(redis.url), free_port()
    queue = Queue(unique("rq"), connection=connection)
    with capture(prometheus_port=port):
        workers = [SimpleWorker([queue], connection=connection) for _ in range(2)]
        for worker in workers:
            rq.install(worker)
        for worker in (workers[0], workers[1], workers[0]):
            job = queue.enqueue(status, port)
            worker.work(burst=True, logging_level="WARNING")
            assert (job.return_value(), status(port)) == (200, None)


def test_process_stays_alive_after_its_rq_worker_has_stopped(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, port, limit = Redis.from_url(redis.url), free_port(), 1.0
    worker = SimpleWorker([Queue(unique("rq"), connection=connection)], connection=connection)
    monkeypatch.setattr(rq, "HEARTBEAT_TIMEOUT", limit - worker.worker_ttl)
    with capture(prometheus_port=port), obs.worker():
        rq.install(worker)
        worker.work(burst=True, logging_level="WARNING")
        deadline = time.monotonic() + limit + 3
        while time.monotonic() < deadline:
            assert httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).status_code == 200
            time.sleep(0.1)


@number_installed
def test_two_taskiq_brokers_record_their_own_tasks_once(installed: int) -> None:
    task_brokers = [InMemoryBroker(await_inplace=True), InMemoryBroker(await_inplace=True)]
    for broker in task_brokers[:installed]:
        taskiq.install(broker)
        taskiq.install(broker)

    @task_brokers[1].task("second")
    async def second() -> None:
        pass

    @task_brokers[0].task("first")
    async def first() -> None:
        await second.kiq()

    async def main() -> None:
        await first.kiq()
        await second.kiq()

    with capture() as captured:
        asyncio.run(main())
    assert span_names(captured) == Counter({"run first": 1, "send taskiq": 1 if installed == 1 else 3}) + Counter(
        {"run second": 2} if installed == 2 else {}
    )
    assert captured.metric("connectsoft.job.active").value == 0
    if installed == 2:
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="second").count == 2


def test_taskiq_middleware_that_kicks_a_task_of_another_broker_is_recorded() -> None:
    orders, audit = InMemoryBroker(await_inplace=True), InMemoryBroker(await_inplace=True)

    class AuditMiddleware(TaskiqMiddleware):
        async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            await record.kiq()
            return message

    taskiq.install(orders)
    taskiq.install(audit)
    orders.add_middlewares(AuditMiddleware())

    @audit.task("record")
    async def record() -> None:
        pass

    @orders.task("order")
    async def order() -> None:
        pass

    with capture() as captured:
        asyncio.run(_kick(order))
    assert span_names(captured) == {"send taskiq": 2, "run record": 1, "run order": 1}
    assert captured.metric("messaging.client.sent.messages").value == 2


async def _kick(task: Any) -> None:
    await task.kiq()


@number_installed
def test_two_faststream_brokers_record_their_own_messages_once(installed: int, redis: Broker) -> None:
    names = [unique("faststream"), unique("faststream")]
    received: list[str] = []

    async def receive(text: str) -> None:
        received.append(text)

    async def main() -> None:
        redis_brokers = [RedisBroker(redis.url), RedisBroker(redis.url)]
        for broker in redis_brokers[:installed]:
            faststream.install(broker)
            faststream.install(broker)
        for broker, name in zip(redis_brokers, names, strict=True):
            broker.subscriber(list=name)(receive)
        for broker in redis_brokers:
            await broker.start()
        for broker, name in zip(redis_brokers, names, strict=True):
            await broker.publish(name, list=name)
        await asyncio.to_thread(wait_for, lambda: len(received) == 2, 20)
        for broker in redis_brokers:
            await broker.stop()

    with capture() as captured:
        asyncio.run(main())
    assert sorted(received) == sorted(names)
    assert span_names(captured) == Counter(
        f"{kind} {name}" for name in names[:installed] for kind in ("send", "process")
    )
    assert captured.metric("messaging.client.consumed.messages").value == installed


def test_stop_of_one_faststream_application_keeps_the_other_ready(redis: Broker) -> None:
    port = free_port()

    async def main() -> None:
        apps = [FastStream(RedisBroker(redis.url)), FastStream(RedisBroker(redis.url))]
        for app in apps:
            faststream.install(app)
        runs = [asyncio.create_task(app.run()) for app in apps]
        await asyncio.to_thread(wait_for, lambda: status(port) == 200, 20)
        for app, run, expected in zip(apps, runs, (200, None), strict=True):
            app.exit()
            await asyncio.wait_for(run, 20)
            assert await asyncio.to_thread(status, port) == expected

    with capture(prometheus_port=port):
        asyncio.run(main())


def dramatiq_actor(broker: RedisTaskBroker, name: str, received: list[str]) -> dramatiq.Actor[Any, None]:
    @dramatiq.actor(broker=broker, actor_name=name, queue_name=name)
    def receive() -> None:
        received.append(name)

    return receive


def task_broker(redis: Broker) -> RedisTaskBroker:
    return RedisTaskBroker(url=redis.url, namespace=unique("dramatiq"))  # type: ignore[no-untyped-call]


@number_installed
def test_two_dramatiq_brokers_record_their_own_messages_once(installed: int, redis: Broker) -> None:
    names, received = ["first", "second"], list[str]()
    task_brokers = [task_broker(redis), task_broker(redis)]
    with capture(prometheus_port=0) as captured:
        for broker in task_brokers[:installed]:
            dramatiq_integration.install(broker)
            dramatiq_integration.install(broker)
        actors = [dramatiq_actor(broker, name, received) for broker, name in zip(task_brokers, names, strict=True)]
        workers = [TaskWorker(broker, worker_timeout=100, worker_threads=1) for broker in task_brokers]
        for actor, worker in zip(actors, workers, strict=True):
            actor.send()
            worker.start()
        wait_for(lambda: sorted(received) == names, 20)
        for worker in workers:
            worker.stop()
    assert span_names(captured) == Counter(f"{kind} {name}" for name in names[:installed] for kind in ("send", "run"))
    assert captured.metric("connectsoft.job.duration").count == installed


def test_stop_of_one_dramatiq_worker_keeps_the_other_ready(redis: Broker) -> None:
    port = free_port()
    broker = task_broker(redis)
    dramatiq_integration.install(broker)
    with capture(prometheus_port=port):
        workers = [TaskWorker(broker, worker_timeout=100, worker_threads=1) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker, expected in zip(workers, (200, None), strict=True):
            assert status(port) == 200
            worker.stop()
            assert status(port) == expected


def status(port: int) -> int | None:
    """Status of readiness on the management port; None if nothing listens there."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code
    except httpx.ConnectError:
        return None


@number_installed
def test_two_schedulers_record_their_own_jobs_once(installed: int) -> None:
    ran: list[int] = []
    with capture() as captured:
        schedulers = [BackgroundScheduler(timezone="UTC"), BackgroundScheduler(timezone="UTC")]
        for scheduler in schedulers[:installed]:
            apscheduler.install(scheduler)
            apscheduler.install(scheduler)
        run_once(schedulers, ran)
    assert span_names(captured) == Counter(f"run job-{number}" for number in range(installed))
    assert captured.metric("connectsoft.job.duration").count == installed


@number_installed
def test_schedulers_that_share_an_executor_record_their_own_jobs_once(installed: int) -> None:
    ran: list[int] = []
    with capture() as captured:
        executor = ThreadPoolExecutor(2)
        schedulers = [BackgroundScheduler(timezone="UTC", executors={"default": executor}) for _ in range(2)]
        for scheduler in schedulers[:installed]:
            apscheduler.install(scheduler)
        run_once(schedulers, ran)
    assert span_names(captured) == Counter(f"run job-{number}" for number in range(installed))


def run_once(schedulers: list[BackgroundScheduler], ran: list[int]) -> None:
    """Run one job in each scheduler."""
    for scheduler in schedulers:
        scheduler.start()
    try:
        for number, scheduler in enumerate(schedulers):
            scheduler.add_job(ran.append, "date", (number,), run_date=datetime.now(UTC), id=f"job-{number}")
        wait_for(lambda: sorted(ran) == list(range(len(schedulers))), 20)
    finally:
        for scheduler in schedulers:
            scheduler.shutdown()


@number_installed
def test_two_service_bus_senders_record_their_own_messages_once(installed: int) -> None:
    names = ["audit-events", "orders"]
    with (
        servicebus() as connection,
        capture() as captured,
        ServiceBusClient.from_connection_string(connection) as client,
    ):
        senders = [client.get_queue_sender(name) for name in names]
        for sender in senders[:installed]:
            servicebus_integration.install(sender)
            servicebus_integration.install(sender)
        for sender in senders:
            with sender:
                sender.send_messages(ServiceBusMessage("hello"))
        traced = 0
        for name in names:
            with client.get_queue_receiver(name, max_wait_time=10) as receiver:
                [message] = receiver.receive_messages(1)
                traced += b"traceparent" in (message.application_properties or {})
                receiver.complete_message(message)
    assert traced == installed
    assert span_names(captured) == Counter(f"send {name}" for name in names[:installed])


@pytest.mark.full
@number_installed
def test_two_storage_queues_record_their_own_messages_once(installed: int) -> None:
    with brokers.azurite() as storage, capture() as captured:
        queues = [QueueClient.from_connection_string(storage.url, unique("queue")) for _ in range(2)]
        for queue in queues[:installed]:
            storagequeue.install(queue)
            storagequeue.install(queue)
        for queue in queues:
            queue.create_queue()
            queue.send_message("hello")
    assert span_names(captured) == Counter(f"send {queue.queue_name}" for queue in queues[:installed])


@pytest.mark.filterwarnings("ignore:Call to deprecated close")
def test_stop_of_one_arq_worker_keeps_another_of_the_same_settings_ready(redis: Broker) -> None:
    port = free_port()

    async def work(ctx: dict[str, Any]) -> int:
        return 1

    name = unique("arq")

    class Settings:
        functions = (func(work, name="work"),)
        queue_name = name
        redis_settings = RedisSettings(port=redis.port)
        handle_signals = False
        poll_delay = 0.05

    async def main() -> None:
        settings: Any = Settings
        arq.install(settings)
        workers = [create_worker(settings), create_worker(settings)]
        runs = [asyncio.create_task(worker.main()) for worker in workers]
        await asyncio.to_thread(wait_for, lambda: status(port) == 200, 20)
        pool = await create_pool(RedisSettings(port=redis.port), default_queue_name=name)
        for worker, run, expected in zip(workers, runs, (200, None), strict=True):
            job = await pool.enqueue_job("work")
            assert job is not None
            assert await job.result(20) == 1
            run.cancel()
            await asyncio.wait([run])
            await worker.close()
            assert await asyncio.to_thread(status, port) == expected
        await pool.close(close_connection_pool=True)

    with capture(prometheus_port=port) as captured:
        asyncio.run(main())
    assert span_names(captured) == {"run work": 2}
