"""Celery with real brokers: one run a task, one trace from sender to task, and numbers that a client's count confirms."""

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

sys.path.append(str(APPS))


@contextlib.contextmanager
def celery(broker: str, *options: str, env: dict[str, str] | None = None, ready: bool = True) -> Iterator[Service]:
    """A worker (or what `options` say) and the tasks bound to the same broker in this process."""
    port = free_port()
    environment = {"BROKER": broker, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", *options, "--loglevel", "INFO"]
    with Service(command, port, {**environment, **(env or {})}) as service:
        if ready:
            service.wait_until_ready(seconds=40)
        yield service


def tasks(broker: str, queue: str) -> Any:
    """The same tasks in this process, to send them."""
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


def lines_of(service: Service, logger: str) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] == logger]


def wait_for_lines(service: Service, expected: Counter[str], seconds: float = 30) -> None:
    def there() -> bool:
        found = Counter(lines_of(service, "connectsoft_obs.job"))
        return not expected - found

    wait_for(there, seconds, f"{expected}")


def spans_of(received: ReceivedTelemetry, name: str) -> list[Any]:
    return [span for span in received.spans if span.name == name]


def send_everything(module: Any) -> None:
    for _ in range(3):
        module.add.delay(1, 2)
    module.fail.delay()
    module.flaky.delay(2)
    module.hopeless.delay()
    module.poison.delay()
    module.ignored.delay()
    module.skipped.delay()
    module.parent.delay()


EVERYTHING = Counter(
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
def test_in_a_pool_of_threads_the_numbers_are_those_of_the_client(system: str, request: pytest.FixtureRequest) -> None:
    broker: Broker = request.getfixturevalue(system)
    queue = f"threads-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        celery(broker.url, "worker", "-P", "threads", "-c", "4", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks(broker.url, queue)
        with capture() as seen:
            send_everything(module)
        wait_for_lines(service, EVERYTHING)
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
        # 10 from here, 1 from a task, 4 retries; each was sent once and delivered once.
        assert page.sum("messaging_client_consumed_messages_total", **labels) == 15
        assert page.sum("messaging_client_sent_messages_total", **labels) == 5
        assert seen.metric("messaging.client.sent.messages", **labels).value == 10
        assert page.sum("connectsoft_message_wait_duration_seconds_count", **labels) == 15
        assert page.sum("connectsoft_obs_errors_total") == 0
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        received = sink.received

    by_id = {span.span_id: span for span in received.spans}
    sent_here = {span.context.span_id.to_bytes(8, "big"): span for span in seen.spans}
    # A task continues the trace of whoever sent it, and links to it.
    for span in spans_of(received, "run add"):
        assert span.parent_span_id in {link.span_id for link in span.links}
        assert span.parent_span_id in sent_here or by_id[span.parent_span_id].name == f"send {queue}"
        assert decode_attributes(span.attributes)["connectsoft.job.trigger"] == "queue"
        assert decode_attributes(span.attributes)["messaging.system"] == system
    # The retries of a task are one trace, and each links to the attempt before.
    for name in ("run flaky", "run hopeless"):
        first, second, third = sorted(
            spans_of(received, name), key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"]
        )
        assert first.trace_id == second.trace_id == third.trace_id
        assert first.span_id in {link.span_id for link in second.links}
        assert second.span_id in {link.span_id for link in third.links}
    # What a task sends is sent inside it.
    [parent] = spans_of(received, "run parent")
    assert [span.name for span in received.spans if span.parent_span_id == parent.span_id] == [f"send {queue}"]
    # What a task binds is on its lines and its span.
    adding = [line for line in service.json_lines if line["message"] == "adding"]
    assert {line["order_id"] for line in adding} == {1}
    assert {line["trace_id"] for line in adding} == {span.trace_id.hex() for span in spans_of(received, "run add")}


@pytest.mark.parametrize("system", ["redis", pytest.param("rabbitmq", marks=pytest.mark.full)])
def test_in_a_pool_of_processes_every_span_and_line_arrives(system: str, request: pytest.FixtureRequest) -> None:
    broker: Broker = request.getfixturevalue(system)
    queue = f"prefork-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        celery(broker.url, "worker", "-P", "prefork", "-c", "2", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks(broker.url, queue)
        with capture():
            send_everything(module)
            module.soft.delay()
            module.soft_caught.delay()
        expected = EVERYTHING + Counter({"run soft timeout": 1, "run soft-caught success": 1})
        wait_for_lines(service, expected)
        for path in ("/health/live", "/health/ready"):
            assert httpx.get(service.url + path).status_code == 200
        page = scrape(service.url)
        endings = {f"run {job} {outcome}": int(count) for (job, outcome, _), count in page.job_runs().items()}
        assert sum(endings.values()) == 13, "attempts that were not the last are no endings"
        assert {title: endings[title] for title in endings if title in expected} == {
            title: expected[title] for title in endings if title in expected
        }
        assert page.sum("connectsoft_job_active") == 0
        assert page.sum("connectsoft_message_wait_duration_seconds_count") == 17
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        names = Counter(span.name for span in sink.received.spans)
    assert names == {
        "run add": 4, "run fail": 1, "run flaky": 3, "run hopeless": 3, "run poison": 1, "run ignored": 1,
        "run skipped": 1, "run parent": 1, "run soft": 1, "run soft-caught": 1, f"send {queue}": 5,
    }  # fmt: skip
    assert Counter(lines_of(service, "connectsoft_obs.job")) == expected, "one line a run, and no other"
    instances = {resource["service.instance.id"] for resource in sink.received.resources}
    assert len(instances) >= 2, "each process is itself"


@pytest.mark.full
def test_a_task_that_takes_its_process_along_is_counted_once_by_the_process_that_has_the_pool(redis: Broker) -> None:
    queue = f"lost-{uuid.uuid4().hex[:8]}"
    with (
        HttpSink() as sink,
        celery(redis.url, "worker", "-c", "1", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks(redis.url, queue)
        with capture() as seen:
            for task in (module.lost, module.hard, module.exits):
                task.delay()
        wait_for_lines(service, Counter({"run lost failure": 1, "run hard timeout": 1, "run exits failure": 1}), 30)
        page = scrape(service.url)
        assert page.job_runs() == {
            ("lost", "failure", "billiard.exceptions.WorkerLostError"): 1,
            ("hard", "timeout", "timeout"): 1,
            ("exits", "failure", "billiard.exceptions.WorkerLostError"): 1,
        }
        assert page.sum("connectsoft_job_active") == 0
        assert page.sum("connectsoft_job_duration_seconds_sum", connectsoft_job_name="hard") >= 1
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        wait_for(lambda: len(spans_of(sink.received, "run exits")) == 1, 10)
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        for name in ("run lost", "run hard", "run exits"):
            [span] = spans_of(sink.received, name)
            assert span.trace_id.hex() in {f"{sent.context.trace_id:032x}" for sent in seen.spans}
    assert Counter(lines_of(service, "connectsoft_obs.job")).total() == 3


def test_a_killed_task_is_counted_when_its_broker_delivers_it_again(redis: Broker, tmp_path: Path) -> None:
    queue, notes = f"killed-{uuid.uuid4().hex[:8]}", tmp_path / "pids"
    with (
        HttpSink() as sink,
        celery(redis.url, "worker", "-c", "1", "-Q", queue, env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "QUEUE": queue,
        }) as service,
    ):  # fmt: skip
        module = tasks(redis.url, queue)
        with capture():
            module.pid.delay(str(notes), 60)
        wait_for(lambda: notes.exists() and notes.read_text().strip(), 10)
        os.kill(int(notes.read_text().split()[0]), signal.SIGKILL)
        wait_for_lines(service, Counter({"run pid success": 1}), 30)
        assert len(notes.read_text().split()) == 2, "it ran twice"
        page = scrape(service.url)
        assert page.job_runs() == {("pid", "success", ""): 1}, "the killed run is the one its broker delivered again"
        assert page.sum("connectsoft_job_active") == 0, "what the killed process had in flight went with it"
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert service.stop(seconds=30) == 0, service.output[-3000:]
        [span] = spans_of(sink.received, "run pid")
        assert decode_attributes(span.attributes)["connectsoft.outcome"] == "success"
    assert Counter(lines_of(service, "connectsoft_obs.job")) == {"run pid success": 1}


@pytest.mark.full
def test_sigterm_lets_a_running_task_finish_with_readiness_red(redis: Broker, tmp_path: Path) -> None:
    queue, notes = f"term-{uuid.uuid4().hex[:8]}", tmp_path / "pids"
    with celery(redis.url, "worker", "-P", "threads", "-c", "1", "-Q", queue, env={"QUEUE": queue}) as service:
        module = tasks(redis.url, queue)
        with capture():
            module.pid.delay(str(notes), 2)
        wait_for(notes.exists, 10)
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert service.process.wait(20) == 0
        wait_for_lines(service, Counter({"run pid success": 1}), 5)


@pytest.mark.full
def test_beat_says_that_it_is_a_timer_and_when_runs_are_due(redis: Broker) -> None:
    queue = f"beat-{uuid.uuid4().hex[:8]}"
    env = {"QUEUE": queue}
    with celery(redis.url, "worker", "-P", "solo", "-Q", queue, env=env) as service:
        due = scrape(service.url).sum("connectsoft_job_next_expected_timestamp_seconds", connectsoft_job_name="tick")
        assert due > 0, "beat's entries are expected before they have ever run"
        with celery(redis.url, "beat", "-s", f"/tmp/{queue}", env=env) as beat:
            wait_for_lines(service, Counter({"run tick success": 2}), 20)
            assert httpx.get(f"{beat.url}/health/live").status_code == 200
            assert "celery-beat" in scrape(beat.url).text
            beat.stop(seconds=20)
        for file in Path("/tmp").glob(f"{queue}*"):
            file.unlink()
        page = scrape(service.url)
        assert page.sum("connectsoft_job_duration_seconds_count", connectsoft_job_trigger="timer") >= 2
        assert page.sum("connectsoft_job_next_expected_timestamp_seconds") > due
        assert service.stop(seconds=20) == 0


@pytest.mark.full
def test_a_publishing_that_fails_ends_its_span_and_leaks_nothing() -> None:
    """The contributed integration leaves the span open and current for the rest of the thread."""
    module = tasks(f"redis://127.0.0.1:{free_port()}/0", "nowhere")
    with capture() as seen:
        with pytest.raises(module.add.OperationalError):
            module.add.apply_async((1, 2), retry=False)
        assert not trace.get_current_span().get_span_context().is_valid
        [span] = seen.spans
        assert (span.name, span.status.status_code.name) == ("send nowhere", "ERROR")
        assert seen.metric("messaging.client.sent.messages", error_type="kombu.exceptions.OperationalError").value == 1


def test_eager_tasks_run_inside_whoever_calls_them() -> None:
    module = tasks("memory://", "eager")
    with capture() as seen, obs.operation("web"):
        assert module.add.apply(args=(1, 2)).get() == 3
        module.fail.apply()
    add, fail, web = seen.spans
    assert add.parent == fail.parent == web.context
    assert (
        seen.metric("connectsoft.job.duration", connectsoft_job_name="fail", connectsoft_outcome="failure").count == 1
    )
    assert seen.metric("messaging.client.consumed.messages").value == 0
    assert seen.metric("connectsoft.job.active").value == 0


def test_installing_twice_changes_nothing() -> None:
    from connectsoft_obs.integrations import celery as integration

    module = tasks("memory://", "eager")
    before = module.app.send_task
    integration.install(module.app)
    assert module.app.send_task == before
    with capture() as seen:
        module.add.apply(args=(1, 2))
    assert len(seen.spans) == 1
