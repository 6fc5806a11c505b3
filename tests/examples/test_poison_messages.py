"""The example workers survive invalid messages, and lose nothing when they are killed at any step of their loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support import brokers
from support.process import free_port, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
EVENT = {"action": "test", "actor": "me", "occurredAt": "2026-01-01T00:00:00+00:00"}
INVALID_EVENTS: list[dict[str | bytes, str | bytes]] = [
    {"other": "no body"},
    {"body": "not json"},
    {"body": b"\xff\xfe"},
    {"body": "[" * 100_000},
    {"body": json.dumps({**EVENT, "occurredAt": "2026-01-01T00:00:00"})},
    {"body": json.dumps({**EVENT, "occurredAt": 5})},
    {"body": json.dumps({**EVENT, "action": ["a"]})},
]
INVALID_REQUESTS: list[dict[str | bytes, str | bytes]] = [
    {"other": "no body"},
    {"body": b"\xff\xfe"},
    {"body": "[" * 100_000},
    {"body": "[]"},
    {"body": json.dumps({"name": "shop"})},
    {"body": json.dumps({"project": "p1"})},
]

WORKER = """
import asyncio, importlib.util, os, signal, sys
path, step = sys.argv[1:3]
spec = importlib.util.spec_from_file_location("example", path)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_around(owner, name, when):
    function = getattr(owner, name)
    async def async_call(*args, **kwargs):
        if when == "before":
            kill()
        result = await function(*args, **kwargs)
        if result != []:  # nothing was read
            kill()
        return result
    def call(*args, **kwargs):
        if when == "before":
            kill()
        function(*args, **kwargs)
        kill()
    setattr(owner, name, async_call if asyncio.iscoroutinefunction(function) else call)

def write_half_a_line(entry_id, event):
    with open(os.environ["AUDIT_TRAIL"], "a") as file:
        file.write('{"action": "te')
    kill()

if step == "half-append":
    example.trail.append = write_half_a_line
elif step != "none":
    when, name = step.split()
    kill_around(example.trail if name == "append" else example, name, when)
asyncio.run(example.main())
"""


@pytest.fixture
def broker() -> Iterator[brokers.Broker]:
    with brokers.redis() as running:
        yield running


def start(example: str, step: str, broker: brokers.Broker, folder: Path) -> subprocess.Popen[str]:
    """Start an example that kills itself at a step."""
    env = {
        **os.environ,
        "BROKER": broker.url,
        "AUDIT_TRAIL": str(folder / "audit.jsonl"),
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port()),
        "FACTORY_TIMEOUT": "20",
    }
    command = [sys.executable, "-c", WORKER, str(EXAMPLES / example / "worker.py"), step]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run_until_killed(example: str, step: str, broker: brokers.Broker, folder: Path) -> None:
    process = start(example, step, broker, folder)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -9, f"{step}: {errors[-2000:]}"


def run_until_idle(example: str, client: Any, group: str, broker: brokers.Broker, folder: Path) -> None:
    stream = {"audit_ingest": "audit-events", "factory_runs": "factory-runs"}[example]

    def is_idle() -> bool:
        assert process.poll() is None, process.communicate()[1][-2000:]
        [information] = client.xinfo_groups(stream)
        return (information["lag"], information["pending"], information["name"]) == (0, 0, group.encode())

    process = start(example, "none", broker, folder)
    try:
        wait_for(is_idle, 60, "all messages are processed")
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


AUDIT_STEPS = [
    "after fetch_entries", "before append", "half-append", "after append", "before acknowledge", "after acknowledge",
    "before move_to_dead_letters", "after move_to_dead_letters",
]  # fmt: skip


def test_killed_audit_worker_stores_each_event_once_and_in_order(broker: brokers.Broker, tmp_path: Path) -> None:
    client: Any = Redis.from_url(broker.url)
    events = 0
    invalid = iter(INVALID_EVENTS * 2)
    for step in AUDIT_STEPS:
        for _ in range(2):
            client.xadd("audit-events", {"body": json.dumps({**EVENT, "number": events})})
            events += 1
        client.xadd("audit-events", next(invalid))
        run_until_killed("audit_ingest", step, broker, tmp_path)
    run_until_idle("audit_ingest", client, "audit-ingest", broker, tmp_path)
    stored = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [event["number"] for event in stored] == list(range(events))
    dead_letters = client.xrange("audit-events-dead")
    assert len(dead_letters) == len(AUDIT_STEPS)
    assert dead_letters[2][1][b"body"] == b"\xff\xfe", "a dead letter has the bytes of its message"
    assert [fields[b"entry"] for _, fields in dead_letters] == sorted(fields[b"entry"] for _, fields in dead_letters)


FACTORY_STEPS = [
    "after fetch_entries", "before factory_run", "after factory_run", "before acknowledge", "after acknowledge",
    "before move_to_dead_letters", "after move_to_dead_letters",
]  # fmt: skip


def test_killed_factory_worker_loses_no_run(broker: brokers.Broker, tmp_path: Path) -> None:
    client: Any = Redis.from_url(broker.url)
    invalid = iter(INVALID_REQUESTS * 2)
    for number, step in enumerate(FACTORY_STEPS):
        client.xadd("factory-runs", {"body": json.dumps({"project": f"p{number}", "name": "shop"})})
        client.xadd("factory-runs", next(invalid))
        run_until_killed("factory_runs", step, broker, tmp_path)
    run_until_idle("factory_runs", client, "factory", broker, tmp_path)
    built = [json.loads(fields[b"body"])["project"] for _, fields in client.xrange("audit-events")]
    assert set(built) == {f"p{number}" for number in range(len(FACTORY_STEPS))}
    assert built == sorted(built)
    assert len(client.xrange("factory-runs-dead")) == len(FACTORY_STEPS)
