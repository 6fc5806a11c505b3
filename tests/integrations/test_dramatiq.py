"""Dramatiq with a real Redis: output of worker processes, one run per attempt, and one trace for each message."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.compat import StreamablePipe
from dramatiq.errors import QueueNotFound
from support.brokers import Broker
from support.otlp import HttpSink
from support.process import Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import dramatiq
from connectsoft_obs.testing import capture

MESSAGES, LINES = 3, 2000


def test_lines_of_dramatiq_worker_processes_arrive_in_full(redis: Broker) -> None:
    namespace = f"dramatiq-{uuid.uuid4().hex[:8]}"
    broker = RedisBroker(url=redis.url, namespace=namespace)  # type: ignore[no-untyped-call]
    broker.declare_queue("default")
    for _ in range(MESSAGES):
        broker.enqueue(Message("default", "count_lines", (LINES,), {}, {}))
    command = [sys.executable, "-m", "dramatiq", "dramatiq_actors", "--processes", "2", "--threads", "2"]
    with Service(command, free_port(), {"BROKER": redis.url, "QUEUE": namespace}) as service:
        wait_for(lambda: service.output.count("run count-lines success") == MESSAGES, 60, "all messages are processed")
        service.stop()
    # A line of another thread or process can come between the two frames of a print; see the test below.
    texts = [text.removeprefix("printed") for text in service.output.splitlines()]
    lines = [json.loads(text) for text in texts if text.startswith("{")]
    numbers = Counter(line["index"] for line in lines if line["message"] == "line")
    assert numbers == Counter(dict.fromkeys(range(LINES), MESSAGES))
    messages = Counter(line["message"] for line in lines)
    assert messages["from the standard library"] == messages["run count-lines success"] == MESSAGES
    assert service.output.count("printed") == MESSAGES


def test_dramatiq_frames_the_text_and_the_newline_of_a_print_separately() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    pipe: Any = StreamablePipe(sender)  # type: ignore[no-untyped-call]
    print("printed", file=pipe, flush=True)
    pipe.write("line\n")
    assert [receiver.recv_bytes() for _ in range(3)] == [b"printed", b"\n", b"line\n"]


def run_worker(redis: Broker, monkeypatch: pytest.MonkeyPatch, *options: str, **env: str) -> tuple[Any, Service]:
    """Import the actors for sending, and start a worker of the same queue."""
    monkeypatch.setenv("BROKER", redis.url)
    monkeypatch.setenv("QUEUE", f"dramatiq-{uuid.uuid4().hex[:8]}")
    monkeypatch.delitem(sys.modules, "dramatiq_tasks", raising=False)
    import dramatiq_tasks as tasks

    port = free_port()
    env |= {"BROKER": redis.url, "QUEUE": os.environ["QUEUE"], "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    return tasks, Service(worker_command(*options), port, env)


def worker_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "dramatiq", "dramatiq_tasks", "--processes", "2", "--threads", "2", *options]


def test_dramatiq_worker_with_conflicting_settings_does_not_start(
    redis: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, worker = run_worker(redis, monkeypatch, OTHER_SERVICE="orders")
    with worker as service:
        assert service.process.wait(30) == 1
        wait_for(lambda: "ConfigurationError: service='reports': this process already" in service.output, 10)


def test_outcomes_and_traces_of_dramatiq_messages_are_complete(
    redis: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        tasks, worker = run_worker(redis, monkeypatch, **env)
        with worker as service:
            service.wait_until_ready(seconds=30)
            with capture() as captured, obs.operation("web"):
                for _ in range(3):
                    tasks.add.send(1, 2)
                for actor in (tasks.fail, tasks.slow, tasks.skipped, tasks.parent):
                    actor.send()
                tasks.flaky.send(str(tmp_path / "attempts"), 2)
                tasks.expired.send_with_options(delay=50)
            expected = {
                ("add", "success", ""): 4,
                ("fail", "failure", "ValueError"): 1,
                ("flaky", "success", ""): 1,
                ("slow", "timeout", "timeout"): 1,
                ("expired", "timeout", "timeout"): 1,
                ("skipped", "rejected", ""): 1,
                ("parent", "success", ""): 1,
            }
            wait_for(lambda: scrape(service.url).job_runs() == expected, 30, f"{expected}")
            page = scrape(service.url)
            assert page.values_by("connectsoft_job_retries_total", "connectsoft_job_name") == {("flaky",): 2}
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            tasks.interruptible.send()
            wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20, "a message is processed")
            assert service.stop(seconds=30) == 0, service.output[-2000:]
            assert "run interruptible aborted" in service.output
        spans = sink.received.spans
    web = captured.span("run web").context.trace_id.to_bytes(16, "big")
    assert {span.trace_id for span in spans if span.name != "run interruptible"} == {web}
    assert Counter(span.name for span in spans)["run flaky"] == 3
    first, second, third = sorted(
        (span for span in spans if span.name == "run flaky"), key=lambda span: span.start_time_unix_nano
    )
    assert first.span_id in {link.span_id for link in second.links}
    assert second.span_id in {link.span_id for link in third.links}


def test_sigterm_lets_an_active_dramatiq_message_end(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, worker = run_worker(redis, monkeypatch)
    with worker as service:
        service.wait_until_ready(seconds=30)
        tasks.sleep.send(2)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20, "a message is processed")
        service.process.terminate()
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 10, "readiness fails")
        assert service.process.wait(30) == 0
        wait_for(lambda: "run sleep success" in service.output, 10)


def test_message_of_a_killed_dramatiq_process_is_counted_when_delivered_again(
    redis: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    one_message = {"HEARTBEAT_TIMEOUT": "1000", "dramatiq_queue_prefetch": "1"}
    tasks, worker = run_worker(redis, monkeypatch, "--threads", "1", **one_message)
    with worker as service:
        service.wait_until_ready(seconds=30)
        with capture():
            tasks.sleep.send(6)
            tasks.sleep_once.send(str(path), 60)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 2, 20, "both processes are busy")
        wait_for(lambda: path.exists() and path.read_text(), 20)
        os.kill(int(path.read_text()), signal.SIGKILL)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20, "the run of the other is active")
        assert scrape(service.url).job_runs() == {}
        assert service.process.wait(30) != 0, "the main process stops the other, and ends"
        wait_for(lambda: "run sleep success" in service.output, 10)
    port = free_port()
    env = {"BROKER": redis.url, "QUEUE": os.environ["QUEUE"], "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with Service(worker_command(), port, {**env, "HEARTBEAT_TIMEOUT": "1000"}) as service:
        service.wait_until_ready(seconds=30)
        expected = {("sleep_once", "success", ""): 1}
        wait_for(lambda: scrape(service.url).job_runs() == expected, 30, "the message is delivered again")
        page = scrape(service.url)
        assert page.sum("connectsoft_job_active") == 0
        assert page.sum("messaging_client_consumed_messages_total") == 1


def test_dramatiq_records_the_installed_broker_and_failed_enqueues() -> None:
    broker, other = StubBroker(), StubBroker()
    for _ in range(2):
        dramatiq.install(broker)
    with capture() as captured:
        other.declare_queue("other")
        other.enqueue(Message("other", "never", (), {}, {}))
        with pytest.raises(QueueNotFound):
            broker.enqueue(Message("nowhere", "never", (), {}, {}))
    [span] = captured.spans
    assert (span.name, span.status.status_code.name) == ("send nowhere", "ERROR")
