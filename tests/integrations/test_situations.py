"""What workers record when they are shut down or killed, and when their broker is away; with the real frameworks.

The page on workers has a table of frameworks and situations; `CELLS` names the test of each cell.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import rq_jobs
from apscheduler.schedulers.background import BackgroundScheduler
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import create_worker, func
from faststream.rabbit import RabbitBroker
from redis import Redis
from rq import Queue, SimpleWorker
from support import brokers
from support.brokers import Broker
from support.process import APPS, Service, free_port, wait_for
from support.scrape import scrape
from taskiq import InMemoryBroker

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler, arq, rq, taskiq
from connectsoft_obs.testing import capture
from integrations.test_broker_hangs import assert_alive_for

CELERY, RQ, ARQ, TASKIQ = "test_celery", "test_rq", "test_arq", "test_taskiq"
FASTSTREAM, DRAMATIQ, HUEY, APSCHEDULER = "test_rabbitmq", "test_dramatiq", "test_huey", "test_apscheduler"
HANG, HERE = "test_broker_hangs", "test_situations"

FRAMEWORKS = ("Celery", "RQ", "arq", "taskiq", "FastStream", "Dramatiq", "Huey", "APScheduler")

_THREADS = (CELERY, "test_thread_pool_metrics_match_the_sent_tasks")
_RQ = (RQ, "test_worker_records_each_job_once")
_ARQ = (ARQ, "test_metrics_match_the_sent_jobs_and_traces_are_complete")
_TASKIQ = (TASKIQ, "test_metrics_match_the_sent_tasks_and_traces_are_complete")
_FASTSTREAM = (FASTSTREAM, "test_faststream_records_each_message_once")
_DRAMATIQ = (DRAMATIQ, "test_outcomes_and_traces_of_dramatiq_messages_are_complete")
_HUEY = (HUEY, "test_outcomes_and_traces_of_huey_tasks_are_complete")
_APSCHEDULER = (APSCHEDULER, "test_each_execution_is_a_run_with_the_timer_trigger")
_SKIP = (HERE, "test_skipped_job_is_rejected")
_SIGTERM = (HERE, "test_sigterm_lets_the_running_job_end")
_REDELIVERY = (HERE, "test_message_of_a_killed_worker_is_recorded_after_its_redelivery")
_KILLED_DRAMATIQ = (DRAMATIQ, "test_message_of_a_killed_dramatiq_process_is_counted_when_delivered_again")
_AWAY = (HERE, "test_worker_stays_alive_while_its_broker_is_away")
_ARQ_ENDS = (HERE, "test_expired_and_aborted_jobs_of_arq")
_RQ_ENDS = (HERE, "test_cancelled_and_expired_jobs_of_rq_are_not_recorded")
_EXPIRED = (CELERY, "test_expired_and_revoked_tasks_are_counted_once")

CELLS: dict[str, dict[str, tuple[str, str, str]]] = {
    "it returns": {
        "Celery": ("success", *_THREADS),
        "RQ": ("success", *_RQ),
        "arq": ("success", *_ARQ),
        "taskiq": ("success", *_TASKIQ),
        "FastStream": ("success", *_FASTSTREAM),
        "Dramatiq": ("success", *_DRAMATIQ),
        "Huey": ("success", *_HUEY),
        "APScheduler": ("success", *_APSCHEDULER),
    },
    "it raises an exception": {
        "Celery": ("failure", *_THREADS),
        "RQ": ("failure", *_RQ),
        "arq": ("failure", *_ARQ),
        "taskiq": ("failure", *_TASKIQ),
        "FastStream": ("failure", *_FASTSTREAM),
        "Dramatiq": ("failure", *_DRAMATIQ),
        "Huey": ("failure", *_HUEY),
        "APScheduler": ("failure", *_APSCHEDULER),
    },
    "it is retried": {
        "Celery": ("retry", *_THREADS),
        "RQ": ("retry", *_RQ),
        "arq": ("retry", *_ARQ),
        "taskiq": ("retry", *_TASKIQ),
        "Dramatiq": ("retry", *_DRAMATIQ),
        "Huey": ("retry", *_HUEY),
    },
    "it is rejected or skipped": {
        "Celery": ("rejected", *_THREADS),
        "RQ": ("rejected", *_SKIP),
        "arq": ("rejected", *_SKIP),
        "taskiq": ("rejected", *_SKIP),
        "FastStream": ("rejected", *_FASTSTREAM),
        "Dramatiq": ("rejected", *_DRAMATIQ),
        "Huey": ("rejected", *_HUEY),
        "APScheduler": ("rejected", *_SKIP),
    },
    "it exceeds its time limit": {
        "Celery": ("timeout", CELERY, "test_process_pool_exports_every_span_and_log_line"),
        "RQ": ("timeout", *_RQ),
        "arq": ("timeout", *_ARQ),
        "taskiq": ("timeout", *_TASKIQ),
        "Dramatiq": ("timeout", *_DRAMATIQ),
        "Huey": ("timeout", *_HUEY),
    },
    "its process is killed": {
        "Celery": ("failure", CELERY, "test_task_that_ends_its_process_is_recorded_once_by_the_main_process"),
        "RQ": ("failure", RQ, "test_killed_work_horse_is_recorded_by_the_worker"),
        "taskiq": ("not recorded", HERE, "test_task_of_a_killed_worker_is_lost_with_a_list_of_redis"),
        "FastStream": ("not recorded", *_REDELIVERY),
        "Dramatiq": ("not recorded", *_KILLED_DRAMATIQ),
        "Huey": ("failure", *_HUEY),
    },
    "it is delivered again after that": {
        "Celery": ("success", CELERY, "test_killed_task_is_recorded_once_after_its_redelivery"),
        "FastStream": ("success", *_REDELIVERY),
        "Dramatiq": ("success", *_KILLED_DRAMATIQ),
    },
    "it expires before it starts": {
        "Celery": ("timeout", *_EXPIRED),
        "RQ": ("not recorded", *_RQ_ENDS),
        "arq": ("not recorded", *_ARQ_ENDS),
        "Dramatiq": ("timeout", *_DRAMATIQ),
        "Huey": ("timeout", *_HUEY),
        "APScheduler": ("not recorded", APSCHEDULER, "test_missed_execution_is_logged_and_not_counted_as_a_run"),
    },
    "it is revoked before it starts": {
        "Celery": ("aborted", *_EXPIRED),
        "RQ": ("not recorded", *_RQ_ENDS),
        "Huey": ("aborted", *_HUEY),
    },
    "it is stopped while it runs": {
        "RQ": ("aborted", RQ, "test_stopped_job_is_aborted"),
        "arq": ("aborted", *_ARQ_ENDS),
    },
    "warm shutdown": {
        "Celery": ("success", CELERY, "test_sigterm_fails_readiness_and_lets_a_running_task_finish"),
        "RQ": ("success", *_SIGTERM),
        "arq": ("aborted", ARQ, "test_job_cancelled_by_a_shutdown_is_aborted"),
        "taskiq": ("success", *_SIGTERM),
        "FastStream": ("success", *_SIGTERM),
        "Dramatiq": ("success", DRAMATIQ, "test_sigterm_lets_an_active_dramatiq_message_end"),
        "Huey": ("success", HUEY, "test_sigint_lets_an_active_huey_task_end"),
        "APScheduler": ("success", HERE, "test_scheduled_job_ends_during_the_drain_of_its_worker"),
    },
    "cold shutdown": {
        "Celery": ("aborted", CELERY, "test_cold_shutdown_fails_readiness_and_counts_the_running_task"),
        "RQ": ("aborted", RQ, "test_second_sigterm_records_the_killed_job"),
        "Huey": ("aborted", *_HUEY),
    },
    "the broker hangs": {
        "Celery": ("alive", HANG, "test_celery_worker_stays_alive_while_the_broker_hangs"),
        "RQ": ("alive", HANG, "test_rq_worker_stays_alive_while_the_broker_hangs"),
        "arq": ("alive", HANG, "test_arq_worker_stays_alive_while_the_broker_hangs"),
        "taskiq": ("alive", HANG, "test_taskiq_worker_stays_alive_while_the_broker_hangs"),
        "FastStream": ("alive", HANG, "test_faststream_stays_alive_while_the_broker_hangs"),
        "Dramatiq": ("alive", HANG, "test_dramatiq_worker_stays_alive_while_the_broker_hangs"),
        "Huey": ("alive", HANG, "test_huey_consumer_stays_alive_while_the_storage_hangs"),
        "APScheduler": ("alive", HANG, "test_apscheduler_stays_alive_while_its_job_store_hangs"),
    },
    "the broker is away": {
        "Celery": ("alive", HANG, "test_celery_worker_is_alive_and_not_ready_before_its_broker_answers"),
        "RQ": ("alive", *_AWAY),
        "arq": ("ends", HERE, "test_worker_ends_while_its_broker_is_away"),
        "taskiq": ("ends", HERE, "test_worker_ends_while_its_broker_is_away"),
        "FastStream": ("alive", *_AWAY),
        "Dramatiq": ("alive", *_AWAY),
        "Huey": ("alive", HANG, "test_huey_consumer_stays_alive_while_the_storage_hangs"),
    },
    "heartbeats are switched off": {
        "Celery": ("alive", HANG, "test_celery_worker_stays_alive_while_the_broker_hangs"),
    },
}
"""Content, test module and test of each cell that states what happens."""

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "workers.md"


def test_table_of_situations_states_what_tests_show() -> None:
    section = PAGE.read_text().split("### Frameworks and situations\n")[1].split("\n#")[0]
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    assert tuple(header[1:]) == FRAMEWORKS
    stated = {
        row[0]: {
            framework: cell
            for framework, cell in zip(FRAMEWORKS, row[1:], strict=True)
            if cell not in ("-", "not tested")
        }
        for row in rows
    }
    assert stated == {
        situation: {framework: content for framework, (content, _, _) in cells.items()}
        for situation, cells in CELLS.items()
    }
    tests = {(module, test) for cells in CELLS.values() for _, module, test in cells.values()}
    sources = {module: Path(__file__).with_name(f"{module}.py").read_text() for module, _ in tests}
    assert [test for module, test in sorted(tests) if f"def {test}(" not in sources[module]] == []


COMMANDS = {
    "rq": (str(APPS / "rq_jobs.py"), "fork"),
    "arq": ("-m", "arq", "arq_jobs.WorkerSettings"),
    "taskiq": ("-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1"),
    "faststream": ("-m", "faststream", "run", "faststream_app:app"),
    "dramatiq": ("-m", "dramatiq", "dramatiq_tasks", "--processes", "1", "--threads", "1"),
}


class Workers:
    """Workers of one framework, with a queue of their own."""

    def __init__(self, framework: str, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.framework = framework
        self.env = {
            "BROKER": broker.url,
            "QUEUE": f"{framework}-{uuid.uuid4().hex[:8]}",
        }
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        for module in ("taskiq_tasks", "dramatiq_tasks"):
            monkeypatch.delitem(sys.modules, module, raising=False)

    def start(self) -> Service:
        """Start a worker."""
        port = free_port()
        env = {**self.env, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        return Service([sys.executable, *COMMANDS[self.framework]], port, env)

    def send(self, seconds: float) -> None:
        """Send a job that sleeps."""
        with capture():
            getattr(self, f"_send_{self.framework}")(seconds)

    def _send_rq(self, seconds: float) -> None:
        Queue(self.env["QUEUE"], connection=Redis.from_url(self.env["BROKER"])).enqueue(rq_jobs.sleep, seconds)

    def _send_arq(self, seconds: float) -> None:
        async def send() -> None:
            pool = await create_pool(RedisSettings.from_dsn(self.env["BROKER"]), default_queue_name=self.env["QUEUE"])
            await pool.enqueue_job("sleep", seconds)
            await pool.aclose(close_connection_pool=True)

        asyncio.run(send())

    def _send_taskiq(self, seconds: float) -> None:
        import taskiq_tasks as tasks

        async def send() -> None:
            await tasks.broker.startup()
            await tasks.sleep.kiq(seconds)
            await tasks.broker.shutdown()

        asyncio.run(send())

    def _send_faststream(self, seconds: float) -> None:
        async def send() -> None:
            async with RabbitBroker(self.env["BROKER"]) as broker:
                await broker.publish({"kind": "sleep", "seconds": str(seconds)}, queue=self.env["QUEUE"])

        asyncio.run(send())

    def _send_dramatiq(self, seconds: float) -> None:
        import dramatiq_tasks as tasks

        tasks.sleep.send(seconds)


@pytest.fixture
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Workers:
    system = "rabbitmq" if request.param == "faststream" else "redis"
    return Workers(request.param, request.getfixturevalue(system), monkeypatch)


def outcomes(service: Service) -> Counter[str]:
    """Outcomes of the jobs and messages of a worker, without those of the cron jobs of arq."""
    return Counter(
        line["connectsoft.outcome"]
        for line in service.json_lines
        if line["logger"] in ("connectsoft_obs.job", "connectsoft_obs.message") and "cron:" not in line["message"]
    )


def wait_until_a_job_runs(service: Service) -> None:
    def has_started() -> bool:
        return scrape(service.url).sum("connectsoft_job_active") == 1 or '"ingesting"' in service.output

    wait_for(has_started, 20, "a job runs")


@pytest.mark.full
@pytest.mark.parametrize("workers", ["rq", "taskiq", "faststream"], indirect=True)
def test_sigterm_lets_the_running_job_end(workers: Workers) -> None:
    with workers.start() as service:
        service.wait_until_ready(seconds=30)
        workers.send(2)
        wait_until_a_job_runs(service)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0, service.output[-3000:]
        wait_for(lambda: outcomes(service) == {"success": 1}, 10, service.output[-3000:])


@pytest.mark.full
@pytest.mark.parametrize("workers", ["faststream"], indirect=True)
def test_message_of_a_killed_worker_is_recorded_after_its_redelivery(workers: Workers) -> None:
    with workers.start() as service:
        service.wait_until_ready(seconds=30)
        workers.send(3)
        wait_until_a_job_runs(service)
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait(10)
        assert outcomes(service) == {}
    with workers.start() as service:
        wait_for(lambda: outcomes(service) == {"success": 1}, 30, service.output[-3000:])


@pytest.mark.full
@pytest.mark.parametrize("workers", ["taskiq"], indirect=True)
def test_task_of_a_killed_worker_is_lost_with_a_list_of_redis(workers: Workers) -> None:
    with workers.start() as service:
        service.wait_until_ready(seconds=30)
        workers.send(60)
        wait_until_a_job_runs(service)
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait(10)
        assert outcomes(service) == {}
    with workers.start() as service:
        service.wait_until_ready(seconds=30)
        workers.send(0)
        wait_for(lambda: outcomes(service) == {"success": 1}, 30, service.output[-3000:])


SCHEDULER = """
import sys, time
import connectsoft_obs as obs
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from connectsoft_obs.integrations import apscheduler

def job():
    time.sleep(2)

scheduler = BlockingScheduler(timezone="UTC")
apscheduler.install(scheduler)
scheduler.add_job(job, id="job")
with obs.worker(service="reports"):
    scheduler.start()
"""


def test_scheduled_job_ends_during_the_drain_of_its_worker() -> None:
    port = free_port()
    with Service([sys.executable, "-c", SCHEDULER], port, {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}) as service:
        service.wait_until_ready(seconds=20)
        wait_until_a_job_runs(service)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0, service.output[-3000:]
        wait_for(lambda: outcomes(service) == {"success": 1}, 10, service.output[-3000:])


def skip_in_rq(redis: Broker) -> None:
    queue = Queue(f"rq-{uuid.uuid4().hex[:8]}", connection=Redis.from_url(redis.url))
    queue.enqueue(obs.skip, "nothing to do")
    worker: Any = SimpleWorker([queue], connection=queue.connection, job_class=rq.ObservedJob)
    worker.work(burst=True, logging_level="WARNING")


def skip_in_arq(redis: Broker) -> None:
    async def skip(ctx: dict[str, Any]) -> None:
        obs.skip("nothing to do")

    async def main() -> None:
        settings, queue = RedisSettings.from_dsn(redis.url), f"arq-{uuid.uuid4().hex[:8]}"
        pool = await create_pool(settings, default_queue_name=queue)
        await pool.enqueue_job("skip")
        await pool.aclose(close_connection_pool=True)
        options: dict[str, Any] = {
            "functions": [func(skip, name="skip")],
            "queue_name": queue,
            "redis_settings": settings,
        }
        arq.install(options, prometheus_port=0)
        worker = create_worker(options, burst=True, handle_signals=False, poll_delay=0.01)
        await worker.async_run()
        await worker.close()

    asyncio.run(main())


def skip_in_taskiq(_: Broker) -> None:
    broker = InMemoryBroker()
    taskiq.install(broker)

    @broker.task("skip")
    async def skip() -> None:
        obs.skip("nothing to do")

    async def main() -> None:
        task = await skip.kiq()
        await task.wait_result(timeout=10)

    asyncio.run(main())


def skip_in_apscheduler(_: Broker) -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    apscheduler.install(scheduler)
    scheduler.add_job(obs.skip, "date", run_date=datetime.now(UTC), args=("nothing to do",))
    scheduler.start()
    wait_for(lambda: not scheduler.get_jobs(), 10)
    scheduler.shutdown(wait=True)


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq calls it
@pytest.mark.parametrize("run_skipped_job", [skip_in_rq, skip_in_arq, skip_in_taskiq, skip_in_apscheduler])
def test_skipped_job_is_rejected(run_skipped_job: Callable[[Broker], None], redis: Broker) -> None:
    with capture() as captured:
        run_skipped_job(redis)
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="rejected").count == 1
    assert captured.metric("connectsoft.job.duration").count == 1


@contextmanager
def worker_without_broker(framework: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Start a worker, and end its broker when the worker is ready."""
    with ExitStack() as stack, brokers.rabbitmq() if framework == "faststream" else brokers.redis() as broker:
        workers = Workers(framework, broker, monkeypatch)
        workers.env |= {"LOOP_TIMEOUT": "3", "CONNECTSOFT_OBS_LIVENESS_STALL": "3"}
        service = stack.enter_context(workers.start())
        service.wait_until_ready(seconds=30)
        os.killpg(broker.process.pid, signal.SIGKILL)
        yield service


@pytest.mark.full
@pytest.mark.parametrize("framework", ["rq", "faststream", "dramatiq"])
def test_worker_stays_alive_while_its_broker_is_away(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_without_broker(framework, monkeypatch) as service:
        assert_alive_for(service, 8)


@pytest.mark.full
@pytest.mark.parametrize("framework", ["arq", "taskiq"])
def test_worker_ends_while_its_broker_is_away(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process manager of taskiq starts another worker process each time."""
    with worker_without_broker(framework, monkeypatch) as service:
        wait_for(lambda: service.process.poll() == 1 or "worker-0 is dead" in service.output, 60)


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq calls it
def test_expired_and_aborted_jobs_of_arq(redis: Broker) -> None:
    is_running = asyncio.Event()

    async def endless(ctx: dict[str, Any]) -> None:
        is_running.set()
        await asyncio.sleep(60)

    async def main() -> None:
        settings, queue = RedisSettings.from_dsn(redis.url), f"arq-{uuid.uuid4().hex[:8]}"
        pool = await create_pool(settings, default_queue_name=queue)
        await pool.enqueue_job("endless", _expires=0.001)
        await asyncio.sleep(0.05)
        running = await pool.enqueue_job("endless")
        options: dict[str, Any] = {
            "functions": [func(endless, name="endless")],
            "queue_name": queue,
            "redis_settings": settings,
            "allow_abort_jobs": True,
        }
        arq.install(options, prometheus_port=0)
        worker = create_worker(options, burst=True, handle_signals=False, poll_delay=0.01)
        task = asyncio.create_task(worker.async_run())
        assert running is not None
        await asyncio.wait_for(is_running.wait(), 20)
        assert await running.abort(timeout=10)
        await task
        await worker.close()
        await pool.aclose(close_connection_pool=True)

    with capture() as captured:
        asyncio.run(asyncio.wait_for(main(), 30))
    assert captured.metric("connectsoft.job.duration", connectsoft_outcome="aborted").count == 1
    assert captured.metric("connectsoft.job.duration").count == 1


def test_cancelled_and_expired_jobs_of_rq_are_not_recorded(redis: Broker) -> None:
    queue = Queue(f"rq-{uuid.uuid4().hex[:8]}", connection=Redis.from_url(redis.url))
    queue.enqueue(rq_jobs.add, 1, 2).cancel()
    expired = queue.enqueue(rq_jobs.add, 1, 2, ttl=1)
    wait_for(lambda: not queue.connection.exists(expired.key), 10)
    queue.enqueue(rq_jobs.sleep, 0)
    worker: Any = SimpleWorker([queue], connection=queue.connection, job_class=rq.ObservedJob)
    with capture() as captured:
        worker.work(burst=True, logging_level="WARNING")
    assert [series["connectsoft_job_name"] for series in captured.metric("connectsoft.job.duration").series] == [
        "rq_jobs.sleep"
    ]
