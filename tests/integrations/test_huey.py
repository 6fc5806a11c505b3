"""Huey with a real Redis and consumer: outcomes, traces, schedules, shutdown; and messages of an instance in memory."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from huey import MemoryHuey
from huey.registry import Message
from huey.serializer import Serializer
from support.brokers import Broker
from support.otlp import HttpSink
from support.process import Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import huey as integration
from connectsoft_obs.testing import capture


def run_consumer(
    redis: Broker, monkeypatch: pytest.MonkeyPatch, worker_type: str, *options: str, **env: str
) -> tuple[Any, Service]:
    """Import the tasks for sending, and start a consumer of the same queue."""
    monkeypatch.setenv("BROKER", redis.url)
    monkeypatch.setenv("QUEUE", f"huey-{uuid.uuid4().hex[:8]}")
    monkeypatch.delitem(sys.modules, "huey_tasks", raising=False)
    import huey_tasks as tasks

    port = free_port()
    env |= {"BROKER": redis.url, "QUEUE": os.environ["QUEUE"], "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    command = [
        sys.executable,
        "-m",
        "huey.bin.huey_consumer",
        "huey_tasks.huey",
        "-w",
        "2",
        "-k",
        worker_type,
        *options,
    ]
    return tasks, Service(command, port, env)


EXPECTED_RUNS = {
    ("add", "success", ""): 5,
    ("add", "aborted", "cancelled"): 1,
    ("add", "timeout", "timeout"): 1,
    ("add", "rejected", ""): 1,
    ("fail", "failure", "ValueError"): 1,
    ("flaky", "success", ""): 1,
    ("retry_once", "success", ""): 1,
    ("cancel", "rejected", ""): 1,
    ("locked", "rejected", ""): 1,
    ("slow", "timeout", "timeout"): 1,
    ("parent", "success", ""): 1,
}
KILLED = ("kill_process", "failure", "connectsoft_obs.integrations.huey_worker_processes.WorkerProcessKilled")


def send_tasks(tasks: Any, directory: Path) -> None:
    """Send tasks that end as in `EXPECTED_RUNS`."""
    huey = tasks.huey
    for _ in range(2):
        tasks.add(1, 2)
    for task in (tasks.fail, tasks.cancel, tasks.slow, tasks.parent):
        task()
    tasks.flaky(str(directory / "attempts"), 2)
    tasks.retry_once(str(directory / "file"))
    huey.lock_task("lock").acquire()
    tasks.locked()
    tasks.add.schedule(args=(1, 2), delay=0.1, expires=datetime(2020, 1, 1))
    revoked = tasks.add.s(1, 2)
    huey.revoke(revoked)
    huey.enqueue(revoked)
    skipped = tasks.add.s(1, 2)
    skipped.id = "skip"
    huey.enqueue(skipped)
    huey.enqueue(tasks.add.s(1, 2).then(tasks.add, 5))


def job_runs(service: Service) -> dict[tuple[str, str, str], float]:
    """The runs of all tasks but the one that is due each minute."""
    runs = {(job.removeprefix("huey_tasks."), *rest): n for (job, *rest), n in scrape(service.url).job_runs().items()}
    runs.pop(("every_minute", "success", ""), None)
    return runs  # type: ignore[return-value]


def active_runs(service: Service) -> float:
    return scrape(service.url).sum("connectsoft_job_active")


RUN_SPANS = 18
"""One for each run of `EXPECTED_RUNS`, and for three attempts that are retried."""


def runs_of_trace(sink: HttpSink, captured: Any) -> list[Any]:
    """The exported spans of runs in the trace of the sender."""
    trace_id = captured.span("run web").context.trace_id.to_bytes(16, "big")
    return [span for span in sink.received.spans if span.trace_id == trace_id and span.name.startswith("run ")]


@pytest.mark.parametrize("worker_type", ["process", pytest.param("thread", marks=pytest.mark.full)])
def test_outcomes_and_traces_of_huey_tasks_are_complete(
    redis: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker_type: str
) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        tasks, consumer = run_consumer(redis, monkeypatch, worker_type, "-c", "0.2", **env)
        with consumer as service:
            service.wait_until_ready(seconds=30)
            with capture() as captured, obs.operation("web"):
                send_tasks(tasks, tmp_path)
            wait_for(lambda: job_runs(service) == EXPECTED_RUNS, 30, f"{EXPECTED_RUNS}; {service.output[-2000:]}")
            page = scrape(service.url)
            assert page.values_by("connectsoft_job_retries_total", "connectsoft_job_name") == {
                ("huey_tasks.flaky",): 2,
                ("huey_tasks.retry_once",): 1,
            }
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            if worker_type == "process":
                wait_for(lambda: len(runs_of_trace(sink, captured)) == RUN_SPANS, 20, "all spans are exported")
                tasks.kill_process(0)
                wait_for(lambda: job_runs(service) == EXPECTED_RUNS | {KILLED: 1}, 30, "the killed task is recorded")
            tasks.sleep(30)
            wait_for(lambda: active_runs(service) == 1, 20, "a task is executed")
            assert service.stop(signal.SIGTERM, 30) == 0, service.output[-2000:]
            assert "run huey_tasks.sleep aborted" in service.output
        runs = runs_of_trace(sink, captured)
    assert len(runs) == RUN_SPANS
    assert Counter(span.name for span in runs)["run huey_tasks.add"] == 8
    attempts = sorted(
        (span for span in runs if span.name == "run huey_tasks.flaky"), key=lambda span: span.start_time_unix_nano
    )
    assert len(attempts) == 3
    for previous, attempt in itertools.pairwise(attempts):
        assert previous.span_id in {link.span_id for link in attempt.links}


def test_sigint_lets_an_active_huey_task_end(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, consumer = run_consumer(redis, monkeypatch, "thread")
    with consumer as service:
        service.wait_until_ready(seconds=30)
        expected = scrape(service.url).values_by(
            "connectsoft_job_next_expected_timestamp_seconds", "connectsoft_job_name"
        )
        tasks.sleep(2)
        wait_for(lambda: active_runs(service) == 1, 20, "a task is executed")
        service.process.send_signal(signal.SIGINT)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 10, "readiness fails")
        assert service.process.wait(30) == 0
        wait_for(lambda: "run huey_tasks.sleep success" in service.output, 10)
    assert expected.keys() == {("huey_tasks.every_minute",), ("huey_tasks.nightly",)}
    due = datetime.fromtimestamp(expected["huey_tasks.nightly",], UTC) - timedelta(minutes=5)
    assert (due.hour, due.minute, due.second) == (2, 0, 0)
    assert timedelta(0) < due - datetime.now(UTC) + timedelta(minutes=1) <= timedelta(days=1, minutes=1)


@pytest.mark.full
def test_huey_task_of_a_process_killed_at_shutdown_is_a_failure(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, consumer = run_consumer(redis, monkeypatch, "process")
    with consumer as service:
        service.wait_until_ready(seconds=30)
        tasks.kill_process(1)
        wait_for(lambda: "will be killed" in service.output, 20)
        assert service.stop(signal.SIGINT, 30) == 0
    [line] = [line for line in service.json_lines if line["message"] == "run huey_tasks.kill_process failure"]
    assert line["connectsoft.job.duration"] >= 1


@pytest.mark.full
@pytest.mark.parametrize("worker_type", ["process", "thread"])
def test_sighup_restarts_a_huey_consumer_without_loss_of_log_lines(
    redis: Broker, monkeypatch: pytest.MonkeyPatch, worker_type: str
) -> None:
    tasks, consumer = run_consumer(redis, monkeypatch, worker_type)
    with consumer as service:
        service.wait_until_ready(seconds=30)
        tasks.sleep(1)
        wait_for(lambda: active_runs(service) == 1, 20, "a task is executed")
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Consumer will restart" in service.output, 20, "the last line is written")
        assert "run huey_tasks.sleep success" in service.output
        service.wait_until_ready(seconds=30)
        tasks.add(1, 2)
        wait_for(lambda: "run huey_tasks.add success" in service.output, 20, "the next task is executed")
        assert service.stop(signal.SIGINT, 30) == 0


def create_huey(**options: Any) -> tuple[Any, Any]:
    """An instance in memory, and its task, which returns its keyword arguments and their type."""
    huey = MemoryHuey(f"huey-{uuid.uuid4().hex[:8]}", **options)

    @huey.task(name="report", context=True)  # type: ignore[untyped-decorator]
    def report(task: Any = None, **kwargs: int) -> Any:
        return kwargs, type(task.kwargs).__name__

    return huey, report


class JsonSerializer(Serializer):  # type: ignore[misc]
    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        content = json.loads(data)
        return Message(*content) if isinstance(content, list) and len(content) > 10 else content


@pytest.mark.parametrize("serializer", [None, JsonSerializer()])
def test_huey_tasks_get_the_keyword_arguments_of_the_sender(serializer: Any) -> None:
    huey, report = create_huey(serializer=serializer)
    integration.install(huey)
    with capture() as captured:
        result = report(count=1)
        assert result.task.kwargs == {"count": 1}
        huey.execute(huey.dequeue())
    assert list(result.get()) == [{"count": 1}, "dict"]
    [send] = [span for span in captured.spans if span.name.startswith("send ")]
    [run] = [span for span in captured.spans if span.name.startswith("run ")]
    assert (run.parent is not None and run.parent.span_id == send.context.span_id) == (serializer is None)


def test_huey_consumers_without_the_integration_execute_observed_messages() -> None:
    huey, report = create_huey()
    other, _ = create_huey()
    integration.install(huey)
    with capture():
        report(count=1)
    task = other.deserialize_task(huey.storage.dequeue())
    assert task.execute()[0] == {"count": 1}


def test_huey_tasks_of_immediate_mode_run_inside_the_caller() -> None:
    huey, report = create_huey(immediate=True)
    integration.install(huey)
    with capture() as captured, obs.operation("web"):
        report()
    [run] = [span for span in captured.spans if span.name.endswith(".report")]
    assert run.parent is not None
    assert run.parent.span_id == captured.span("run web").context.span_id
    assert len(captured.spans) == 2


def test_huey_records_only_the_installed_instance() -> None:
    huey, report = create_huey()
    other, other_report = create_huey()
    for _ in range(2):
        integration.install(huey)
    with capture() as captured:
        for instance, task in ((huey, report), (other, other_report)):
            task()
            instance.execute(instance.dequeue())
    assert len(captured.spans) == 2


def test_huey_result_that_cannot_be_stored_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    huey, report = create_huey()
    integration.install(huey)

    def put_data(*_: Any, **__: Any) -> None:
        message = "the storage is away"
        raise ConnectionError(message)

    with capture() as captured:
        report()
        task = huey.dequeue()
        monkeypatch.setattr(huey.storage, "put_data", put_data)
        with pytest.raises(ConnectionError):
            huey.execute(task)
    durations = captured.metric("connectsoft.job.duration", connectsoft_outcome="failure", error_type="ConnectionError")
    assert durations.count == 1


def test_wrong_arguments_of_the_huey_integration_are_errors() -> None:
    huey, _ = create_huey()
    with pytest.raises(obs.ConfigurationError, match="not a Huey instance"):
        integration.install(object())
    with pytest.raises(obs.ConfigurationError, match="servce"):
        integration.install(huey, servce="reports")


def test_huey_consumer_with_greenlets_is_an_error() -> None:
    huey, _ = create_huey()
    integration.install(huey)
    with pytest.raises(obs.ConfigurationError, match="greenlet"):
        huey.create_consumer(worker_type="greenlet")
