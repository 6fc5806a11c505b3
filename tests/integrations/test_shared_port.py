"""Workers of one machine that share the management port: its page shows the totals of all of them."""

from __future__ import annotations

import contextlib
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import Broker
from support.process import Service, free_port, wait_for
from support.scrape import scrape

from connectsoft_obs.testing import capture
from integrations.test_celery import run_celery, tasks_for

WORKER = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
import connectsoft_obs as obs

@obs.job("count")
def count(_=0):
    pass

with obs.worker(service=sys.argv[1]) as worker:
    for _ in range(int(sys.argv[2])):
        count()
    if len(sys.argv) > 3:
        with ProcessPoolExecutor(1) as executor:
            list(executor.map(count, range(int(sys.argv[3]))))
    obs.get_logger("test").info("counted")
    while not worker.draining:
        time.sleep(0.02)
"""


@contextlib.contextmanager
def run_worker(port: int, *arguments: str) -> Iterator[Service]:
    """Run a worker that counts jobs, in its own process and in a process pool, and then waits."""
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with Service([sys.executable, "-c", WORKER, *arguments], port, env) as worker:
        wait_for(lambda: any(line["message"] == "counted" for line in worker.json_lines), 30, "the jobs are done")
        yield worker


SUPERVISOR = """
import multiprocessing, signal, sys, time
import connectsoft_obs as obs

@obs.job("count")
def count():
    pass

def run_worker(service, number):
    with obs.worker(service=service) as worker:
        for _ in range(number):
            count()
        while not worker.draining:
            time.sleep(0.02)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    workers = []
    signal.signal(signal.SIGTERM, lambda *_: [worker.terminate() for worker in workers])
    for _ in range(2):
        workers.append(context.Process(target=run_worker, args=(sys.argv[1], int(sys.argv[2]))))
        workers[-1].start()
    for worker in workers:
        worker.join()
"""
"""A program that starts two worker processes, as the command lines of taskiq, Dramatiq and FastStream do."""


def test_page_of_a_shared_port_has_the_workers_of_two_supervisors(tmp_path: Path) -> None:
    port, script = free_port(), tmp_path / "supervisor.py"
    script.write_text(SUPERVISOR)
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    command = [sys.executable, str(script), "supervised"]
    with Service([*command, "5"], port, env) as first:
        first.wait_until_ready(seconds=30)
        wait_for(lambda: job_count(first) == 10, 20, "the workers of the first supervisor")
        with Service([*command, "3"], port, env) as second:
            wait_for(lambda: job_count(first) == 16, 20, "the workers of both supervisors")
            first.stop()
            wait_for(lambda: job_count(second), 20, "a worker of the second supervisor takes over the port")
            assert job_count(second) == 16, "no total decreases"
            second.stop()


def job_count(worker: Service) -> float:
    return scrape(worker.url).sum("connectsoft_job_duration_seconds_count")


def warnings(worker: Service) -> list[str]:
    return [line["message"] for line in worker.json_lines if line["severity"] == "WARN"]


SHARED = "another worker has the management port; its metrics include this worker, its probes do not"


@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_page_of_a_shared_port_has_the_totals_of_all_workers(end: signal.Signals) -> None:
    port = free_port()
    with run_worker(port, "two", "100") as first:
        assert job_count(first) == 100
        with run_worker(port, "two", "7", "5") as second:
            wait_for(lambda: job_count(first) == 112, 10, "the page has the totals of both workers")
            assert warnings(second) == [SHARED]
            first.stop(end)
            wait_for(lambda: job_count(second) > 0, 10, "the second worker takes over the port")
            assert job_count(second) == 112, "no total decreases"
            with run_worker(port, "two", "1"):
                wait_for(lambda: job_count(second) == 113, 10)
    with run_worker(port, "two", "3") as later:
        assert job_count(later) == 3, "totals of workers that have all ended are not continued"


def test_worker_of_another_service_on_the_port_is_not_counted() -> None:
    port = free_port()
    with run_worker(port, "orders", "4") as first, run_worker(port, "billing", "2") as second:
        assert job_count(first) == 4
        assert warnings(second) == ["cannot listen on the management port, retrying"]
        first.stop()
        wait_for(lambda: job_count(second) == 2, 10, "the worker of the other service takes over the port")


@pytest.mark.full
def test_page_of_a_shared_port_has_the_tasks_of_two_celery_workers(redis: Broker) -> None:
    queues, port = [f"shared-{uuid.uuid4().hex[:8]}" for _ in range(2)], free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    options = [("worker", "-c", "1", "-n", f"{queue}@host", "-Q", queue) for queue in queues]
    expected = {("add", "success", ""): 5, ("fail", "failure", "ValueError"): 3}
    with run_celery(redis.url, *options[0], env=env, ready=False) as first:
        first.url = f"http://127.0.0.1:{port}"
        first.wait_until_ready(seconds=40)
        with run_celery(redis.url, *options[1], env=env, ready=False) as second:
            second.url = first.url
            wait_for(lambda: SHARED in warnings(second), 40)
            module = tasks_for(redis.url, queues[0])
            with capture():
                for _ in range(5):
                    module.add.apply_async((1, 2), queue=queues[0])
                for _ in range(3):
                    module.fail.apply_async(queue=queues[1])
            wait_for(lambda: scrape(first.url).job_runs() == expected, 30, f"{expected}")
            assert first.stop(seconds=30) == 0
            wait_for(lambda: scrape(second.url).job_runs(), 10, "the second worker takes over the port")
            assert scrape(second.url).job_runs() == expected
