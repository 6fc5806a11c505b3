"""Celery with real brokers: one run per task, one trace from producer to task, and metrics that match the sent tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from support.brokers import Broker
from support.otlp import HttpSink, ReceivedTelemetry, decode_attributes
from support.process import APPS, Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.testing import capture
from connectsoft_obs.work import schedule

sys.path.append(str(APPS))


@contextlib.contextmanager
def run_celery(broker: str, *options: str, env: dict[str, str] | None = None, ready: bool = True) -> Iterator[Service]:
    """Run the celery command with a subcommand and its options."""
    port = free_port()
    environment = {"BROKER": broker, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", *options, "--loglevel", "INFO"]
    with Service(command, port, {**environment, **(env or {})}) as service:
        if ready:
            service.wait_until_ready(seconds=40)
        yield service


def tasks_for(broker: str, queue: str) -> Any:
    """The module celery_tasks in this process, with a broker and a queue to send its tasks to."""
    import celery_tasks

    app = celery_tasks.app
    app.conf.broker_url = broker
    app.conf.task_default_queue = queue
    app.amqp.__dict__.pop("queues", None)
    app.amqp.__dict__.pop("router", None)
    app.amqp.__dict__.pop("routes", None)
    app._pool = None
    app.amqp._producer_pool = None
    return celery_tasks


def log_messages(service: Service, logger: str) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] == logger]


def wait_for_messages(service: Service, expected: Counter[str], seconds: float = 30) -> None:
    def all_logged() -> bool:
        return not expected - Counter(log_messages(service, "connectsoft_obs.job"))

    wait_for(all_logged, seconds, f"{expected}")


def spans_named(received: ReceivedTelemetry, name: str) -> list[Any]:
    return [span for span in received.spans if span.name == name]


def send_all_tasks(module: Any) -> None:
    for _ in range(3):
        module.add.delay(1, 2)
    module.fail.delay()
    module.flaky.delay(2)
    module.hopeless.delay()
    module.poison.delay()
    module.ignored.delay()
    module.skipped.delay()
    module.parent.delay()


EXPECTED_MESSAGES = Counter(
    {
        "run add success": 4,
        "run fail failure": 1,
        "run flaky failure and will be retried": 2,
        "run flaky success": 1,
        "run hopeless failure and will be retried": 2,
        "run hopeless failure": 1,
        "run poison rejected": 1,
        "run ignored rejected": 1,
        "run skipped rejected": 1,
        "run parent success": 1,
    }
)


@pytest.mark.parametrize("system", ["redis", pytest.param("rabbitmq", marks=pytest.mark.full)])
def test_thread_pool_metrics_match_the_sent_tasks(system: str, request: pytest.FixtureRequest) -> None:
    broker: Broker = request.getfixturevalue(system)
    queue = f"threads-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        run_celery(broker.url, "worker", "-P", "threads", "-c", "4", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks_for(broker.url, queue)
        with capture() as captured:
            send_all_tasks(module)
        wait_for_messages(service, EXPECTED_MESSAGES)
        page = scrape(service.url)
        assert page.job_runs() == {
            ("add", "success", ""): 4,
            ("fail", "failure", "ValueError"): 1,
            ("flaky", "success", ""): 1,
            ("hopeless", "failure", "OSError"): 1,
            ("poison", "rejected", ""): 1,
            ("ignored", "rejected", ""): 1,
            ("skipped", "rejected", ""): 1,
            ("parent", "success", ""): 1,
        }
        assert page.values_by("connectsoft_job_retries_total", "connectsoft_job_name") == {
            ("flaky",): 2,
            ("hopeless",): 2,
        }
        assert page.sum("connectsoft_job_active") == 0
        labels = {"messaging_system": system, "messaging_destination_name": queue}
        # 10 tasks from the test, 1 from a task and 4 retries; each is sent once and delivered once.
        assert page.sum("messaging_client_consumed_messages_total", **labels) == 15
        assert page.sum("messaging_client_sent_messages_total", **labels) == 5
        assert captured.metric("messaging.client.sent.messages", **labels).value == 10
        assert page.sum("connectsoft_message_wait_duration_seconds_count", **labels) == 15
        assert page.sum("connectsoft_obs_errors_total") == 0
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        received = sink.received

    spans_by_id = {span.span_id: span for span in received.spans}
    sent_spans_by_id = {span.context.span_id.to_bytes(8, "big"): span for span in captured.spans}
    # A task continues the trace of its producer and links to the producer's span.
    for span in spans_named(received, "run add"):
        assert span.parent_span_id in {link.span_id for link in span.links}
        assert span.parent_span_id in sent_spans_by_id or spans_by_id[span.parent_span_id].name == f"send {queue}"
        assert decode_attributes(span.attributes)["connectsoft.job.trigger"] == "queue"
        assert decode_attributes(span.attributes)["messaging.system"] == system
    # The attempts of a task share one trace, and each links to the previous attempt.
    for name in ("run flaky", "run hopeless"):
        first, second, third = sorted(
            spans_named(received, name), key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"]
        )
        assert first.trace_id == second.trace_id == third.trace_id
        assert first.span_id in {link.span_id for link in second.links}
        assert second.span_id in {link.span_id for link in third.links}
    # The span of a send inside a task is a child of the task's span.
    [parent] = spans_named(received, "run parent")
    assert [span.name for span in received.spans if span.parent_span_id == parent.span_id] == [f"send {queue}"]
    # Context bound inside a task is on its log lines.
    task_lines = [line for line in service.json_lines if line["message"] == "adding"]
    assert {line["order_id"] for line in task_lines} == {1}
    assert {line["trace_id"] for line in task_lines} == {
        span.trace_id.hex() for span in spans_named(received, "run add")
    }


def test_overlapping_attempts_of_a_task_are_separate_runs(redis: Broker) -> None:
    queue = f"overlap-{uuid.uuid4().hex[:8]}"
    with run_celery(redis.url, "worker", "-P", "threads", "-c", "2", "-Q", queue, env={"QUEUE": queue}) as service:
        module = tasks_for(redis.url, queue)
        with capture():
            module.overlapping.delay()
        wait_for_messages(
            service, Counter({"run overlapping failure and will be retried": 1, "run overlapping success": 1})
        )
        page = scrape(service.url)
        assert page.job_runs() == {("overlapping", "success", ""): 1}
        assert page.sum("connectsoft_job_active") == 0


@pytest.mark.parametrize("system", ["redis", pytest.param("rabbitmq", marks=pytest.mark.full)])
def test_process_pool_exports_every_span_and_log_line(system: str, request: pytest.FixtureRequest) -> None:
    broker: Broker = request.getfixturevalue(system)
    queue = f"prefork-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        run_celery(broker.url, "worker", "-P", "prefork", "-c", "2", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks_for(broker.url, queue)
        with capture():
            send_all_tasks(module)
            module.soft.delay()
            module.soft_caught.delay()
        expected = EXPECTED_MESSAGES + Counter({"run soft timeout": 1, "run soft-caught success": 1})
        wait_for_messages(service, expected)
        for path in ("/health/live", "/health/ready"):
            assert httpx.get(service.url + path).status_code == 200
        page = scrape(service.url)
        runs = {f"run {job} {outcome}": int(count) for (job, outcome, _), count in page.job_runs().items()}
        assert sum(runs.values()) == 13, "attempts that will be retried are not counted as runs"
        assert {message: runs[message] for message in runs if message in expected} == {
            message: expected[message] for message in runs if message in expected
        }
        assert page.sum("connectsoft_job_active") == 0
        assert page.sum("connectsoft_message_wait_duration_seconds_count") == 17
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        names = Counter(span.name for span in sink.received.spans)
    assert names == {
        "run add": 4, "run fail": 1, "run flaky": 3, "run hopeless": 3, "run poison": 1, "run ignored": 1,
        "run skipped": 1, "run parent": 1, "run soft": 1, "run soft-caught": 1, f"send {queue}": 5,
    }  # fmt: skip
    assert Counter(log_messages(service, "connectsoft_obs.job")) == expected, "one log line per attempt and no other"
    instances = {resource["service.instance.id"] for resource in sink.received.resources}
    assert len(instances) >= 2, "each process has its own instance id"


@pytest.mark.full
def test_task_that_ends_its_process_is_recorded_once_by_the_main_process(redis: Broker) -> None:
    queue = f"lost-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        run_celery(redis.url, "worker", "-c", "1", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks_for(redis.url, queue)
        with capture() as captured:
            for task in (module.lost, module.hard, module.exits):
                task.delay()
        wait_for_messages(service, Counter({"run lost failure": 1, "run hard timeout": 1, "run exits failure": 1}), 30)
        page = scrape(service.url)
        assert page.job_runs() == {
            ("lost", "failure", "billiard.exceptions.WorkerLostError"): 1,
            ("hard", "timeout", "timeout"): 1,
            ("exits", "failure", "billiard.exceptions.WorkerLostError"): 1,
        }
        assert page.sum("connectsoft_job_active") == 0
        assert page.sum("connectsoft_job_duration_seconds_sum", connectsoft_job_name="hard") >= 1
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        wait_for(lambda: len(spans_named(sink.received, "run exits")) == 1, 10)
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        for name in ("run lost", "run hard", "run exits"):
            [span] = spans_named(sink.received, name)
            assert span.trace_id.hex() in {f"{sent.context.trace_id:032x}" for sent in captured.spans}
    assert Counter(log_messages(service, "connectsoft_obs.job")).total() == 3


def test_killed_task_is_recorded_once_after_its_redelivery(redis: Broker, tmp_path: Path) -> None:
    queue, pid_file = f"killed-{uuid.uuid4().hex[:8]}", tmp_path / "pids"
    with (
        HttpSink() as sink,
        run_celery(redis.url, "worker", "-c", "1", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks_for(redis.url, queue)
        with capture():
            module.pid.delay(str(pid_file), 60)
        wait_for(lambda: pid_file.exists() and pid_file.read_text().strip(), 10)
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        wait_for_messages(service, Counter({"run pid success": 1}), 30)
        assert len(pid_file.read_text().split()) == 2, "the task ran twice"
        page = scrape(service.url)
        assert page.job_runs() == {("pid", "success", ""): 1}, "the killed attempt is not counted as a run of its own"
        assert page.sum("connectsoft_job_active") == 0, "the killed process no longer counts as active"
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        [span] = spans_named(sink.received, "run pid")
        assert decode_attributes(span.attributes)["connectsoft.outcome"] == "success"
    assert Counter(log_messages(service, "connectsoft_obs.job")) == {"run pid success": 1}


@pytest.mark.full
def test_sigterm_fails_readiness_and_lets_a_running_task_finish(redis: Broker, tmp_path: Path) -> None:
    queue, pid_file = f"term-{uuid.uuid4().hex[:8]}", tmp_path / "pids"
    with run_celery(redis.url, "worker", "-P", "threads", "-c", "1", "-Q", queue, env={"QUEUE": queue}) as service:
        module = tasks_for(redis.url, queue)
        with capture():
            module.pid.delay(str(pid_file), 2)
        wait_for(pid_file.exists, 10)
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert service.process.wait(20) == 0
        wait_for_messages(service, Counter({"run pid success": 1}), 5)


@pytest.mark.parametrize("system", ["redis", pytest.param("rabbitmq", marks=pytest.mark.full)])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_expired_and_revoked_tasks_are_counted_once(pool: str, system: str, request: pytest.FixtureRequest) -> None:
    broker: Broker = request.getfixturevalue(system)
    queue = f"expired-{uuid.uuid4().hex[:8]}"
    with run_celery(broker.url, "worker", "-P", pool, "-c", "1", "-Q", queue, env={"QUEUE": queue}) as service:
        module = tasks_for(broker.url, queue)
        with capture():
            module.add.apply_async((1, 2), expires=-1)
            # Received with a countdown and revoked before it is due.
            revoked = module.add.apply_async((1, 2), countdown=5)
            assert module.app.control.revoke(revoked.id, reply=True, timeout=4)
        wait_for_messages(service, Counter({"run add timeout": 1, "run add aborted": 1}), 30)
        page = scrape(service.url)
        assert page.job_runs() == {("add", "timeout", "timeout"): 1, ("add", "aborted", "cancelled"): 1}
        assert page.sum("connectsoft_message_wait_duration_seconds_count") == 2
        assert page.sum("connectsoft_job_active") == 0
        assert service.stop(seconds=30) == 0
    assert len(log_messages(service, "connectsoft_obs.job")) == 2


def test_cold_shutdown_fails_readiness_and_counts_the_running_task(redis: Broker) -> None:
    queue = f"cold-{uuid.uuid4().hex[:8]}"
    env = {"QUEUE": queue, "SOFT_SHUTDOWN_TIMEOUT": "5"}
    with (
        HttpSink() as sink,
        run_celery(redis.url, "worker", "-c", "2", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **env,
        }) as service,
    ):  # fmt: skip
        module = tasks_for(redis.url, queue)
        with capture():
            module.sleep.delay(60)
            module.sleep_acks_late.delay(60)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 2, 20)
        service.process.send_signal(signal.SIGQUIT)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 4)
        service.process.wait(30)
        assert Counter(log_messages(service, "connectsoft_obs.job")) == {
            "run sleep aborted": 1, "run sleep-acks-late aborted and will be retried": 1,
        }  # fmt: skip
        [span] = spans_named(sink.received, "run sleep")
        assert span.end_time_unix_nano - span.start_time_unix_nano >= 4e9, "the time that the task ran"


@pytest.mark.full
def test_beat_sets_the_timer_trigger_and_expected_times(redis: Broker) -> None:
    queue = f"beat-{uuid.uuid4().hex[:8]}"
    env = {"QUEUE": queue}
    with run_celery(redis.url, "worker", "-P", "solo", "-Q", queue, env=env) as service:
        due = scrape(service.url).sum("connectsoft_job_next_expected_timestamp_seconds", connectsoft_job_name="tick")
        assert due > 0, "beat entries have an expected time before their first run"
        with run_celery(redis.url, "beat", "-s", f"/tmp/{queue}", env=env) as beat:
            wait_for_messages(service, Counter({"run tick success": 2}), 20)
            assert httpx.get(f"{beat.url}/health/live").status_code == 200
            assert "celery-beat" in scrape(beat.url).text
            assert scrape(beat.url).sum("connectsoft_job_next_expected_timestamp_seconds") == 0, "it runs no tasks"
            beat.stop(seconds=20)
        for file in Path("/tmp").glob(f"{queue}*"):
            file.unlink()
        page = scrape(service.url)
        assert page.sum("connectsoft_job_duration_seconds_count", connectsoft_job_trigger="timer") >= 2
        assert page.sum("connectsoft_job_next_expected_timestamp_seconds") > due
        assert service.stop(seconds=20) == 0


def test_schedules_of_beat_are_declared_for_the_queues_of_a_worker() -> None:
    from celery import Celery

    from connectsoft_obs.integrations.celery_schedules import declare_beat_schedules

    app = Celery("schedules", broker="memory://", set_as_current=False)
    app.conf.task_routes = {"routed": {"queue": "q2"}, "plain": "q1"}
    app.conf.beat_schedule = {
        "a": {"task": "routed", "schedule": 60.0},
        "b": {"task": "plain", "schedule": 60.0},
        "c": {"task": "default", "schedule": 60.0},
        "d": {"task": "own", "schedule": 60.0, "options": {"queue": "q2"}},
        "e": {"task": "twice", "schedule": 60.0},
        "f": {"task": "twice", "schedule": 90.0},
    }
    queues_before = set(app.amqp.queues)

    def expected_jobs(queues: Any) -> set[str]:
        previous = dict(schedule._declared)
        schedule._declared.clear()
        try:
            declare_beat_schedules(app, queues)
            return {declared.job for declared in schedule.declared_schedules()}
        finally:
            schedule._declared.clear()
            schedule._declared.update(previous)

    with capture():
        assert expected_jobs("q1,celery") == {"plain", "default"}
        assert expected_jobs(["q2"]) == {"routed", "own"}
        assert expected_jobs(None) == {"routed", "plain", "default", "own"}
    assert set(app.amqp.queues) == queues_before, "no queue is created"


@pytest.mark.full
def test_failed_publish_ends_its_span_and_restores_the_context() -> None:
    """OpenTelemetry's Celery instrumentation leaves the span open and current for the rest of the thread."""
    module = tasks_for(f"redis://127.0.0.1:{free_port()}/0", "unreachable")
    with capture() as captured:
        with pytest.raises(module.add.OperationalError):
            module.add.apply_async((1, 2), retry=False)
        assert not trace.get_current_span().get_span_context().is_valid
        [span] = captured.spans
        assert (span.name, span.status.status_code.name) == ("send unreachable", "ERROR")
        assert (
            captured.metric("messaging.client.sent.messages", error_type="kombu.exceptions.OperationalError").value == 1
        )


def test_eager_task_is_a_child_of_its_caller() -> None:
    module = tasks_for("memory://", "eager")
    with capture() as captured, obs.operation("web"):
        assert module.add.apply(args=(1, 2)).get() == 3
        module.fail.apply()
    add, fail, web = captured.spans
    assert add.parent == fail.parent == web.context
    assert (
        captured.metric("connectsoft.job.duration", connectsoft_job_name="fail", connectsoft_outcome="failure").count
        == 1
    )
    assert captured.metric("messaging.client.consumed.messages").value == 0
    assert captured.metric("connectsoft.job.active").value == 0


def test_second_installation_has_no_effect() -> None:
    from connectsoft_obs.integrations import celery as integration

    module = tasks_for("memory://", "eager")
    send_task = module.app.send_task
    integration.install(module.app)
    assert module.app.send_task == send_task
    with capture() as captured:
        module.add.apply(args=(1, 2))
    assert len(captured.spans) == 1


def test_two_apps_in_one_process_record_their_own_tasks_once() -> None:
    from celery import Celery

    from connectsoft_obs.integrations import celery as integration

    apps = [Celery(name, broker="memory://", set_as_current=False) for name in ("orders", "billing")]
    for app in apps:
        integration.install(app)
        integration.install(app)

    def increment(x: int) -> int:
        return x + 1

    tasks = [app.task(name=f"{app.main}.add")(increment) for app in apps]
    with capture() as captured:
        for task in tasks:
            assert task.apply(args=(1,)).get() == 2
            task.apply_async(args=(1,), queue="shared")
    names = Counter(span.name for span in captured.spans)
    assert names == {"run orders.add": 1, "run billing.add": 1, "send shared": 2}
    for app in apps:
        job = f"{app.main}.add"
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name=job).count == 1
    assert captured.metric("messaging.client.sent.messages").value == 2
    assert captured.metric("connectsoft.job.active").value == 0


def test_worker_of_one_app_starts_nothing_for_another(tmp_path: Path) -> None:
    (tmp_path / "two_apps.py").write_text(
        "from celery import Celery\n"
        "from connectsoft_obs.integrations import celery\n"
        "billing = Celery('billing', broker='memory://')\n"
        "celery.install(billing, service='billing')\n"
        "app = Celery('orders', broker='memory://')\n"
        "celery.install(app, service='orders')\n"
    )
    port = free_port()
    env = {
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(obs.__file__).parents[1])]),
    }
    command = [sys.executable, "-m", "celery", "-A", "two_apps", "worker", "--pool", "threads", "--loglevel", "INFO"]
    with Service(command, port, env) as service:
        service.wait_until_ready(seconds=40)
        assert httpx.get(f"{service.url}/info").json()["service"] == "orders"
        service.stop()
    starts = [line for line in service.json_lines if line.get("message") == "observability configured"]
    assert [line["service.name"] for line in starts] == ["orders"]
