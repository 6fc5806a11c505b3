"""Forked, spawned and reloaded processes have separate resources, export their own telemetry and do not deadlock."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.otlp import HttpSink
from support.process import APPS, Service, free_port, gunicorn, wait_for
from support.scripts import run_script

FORKS = """
import faulthandler, os, sys, threading, time
import connectsoft_obs as obs
from opentelemetry import trace
telemetry = obs.configure(service="forking", shutdown_timeout=20)
telemetry.serve()
log, done, iterations = obs.get_logger("fork"), threading.Event(), obs.counter("fork.iterations")
tracer = trace.get_tracer("fork")
def load():
    while not done.is_set():
        with obs.operation("load"), tracer.start_as_current_span("busy"):
            iterations.add(1)
            log.info("busy")
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads: thread.start()
failed = 0
for number in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(15)
        with tracer.start_as_current_span(f"child-{number}"):
            log.info(f"in child {number}")
        os._exit(0 if telemetry.shutdown(20) else 1)
    deadline = time.monotonic() + 30
    while (result := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.002)
    failed += result[1] != 0
done.set()
for thread in threads: thread.join()
telemetry.shutdown()
os._exit(min(failed, 100))
"""


def fork_under_load(forks: int, seconds: float) -> None:
    with HttpSink() as sink:
        result = run_script(FORKS, str(forks), env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, timeout=seconds)
        assert result.exit_code == 0, f"{result.exit_code} children hung or did not send: {result.stderr[-2000:]}"
        names = Counter(span.name for span in sink.received.spans if span.name.startswith("child-"))
        assert names == {f"child-{number}": 1 for number in range(forks)}
        instances = {resource["service.instance.id"] for resource in sink.received.resources}
        assert len(instances) == forks + 1
        assert sum(f"in child {number}" in result.stdout for number in range(forks)) == forks


def test_forks_under_load_do_not_hang_and_each_child_exports() -> None:
    fork_under_load(20, 120)


@pytest.mark.full
def test_two_hundred_forks_under_load_do_not_hang() -> None:
    fork_under_load(200, 900)


SPAWNED = """
import multiprocessing, sys
import connectsoft_obs as obs

@obs.job("in-child")
def work(number):
    return number * 2

def child(number):
    obs.configure(service="spawned")
    assert work(number) == number * 2
    obs.configure(service="spawned").shutdown(10)

if __name__ == "__main__":
    obs.configure(service="spawned")
    work(0)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=child, args=(number,)) for number in (1, 2)]
    for process in children: process.start()
    for process in children: process.join(60)
    obs.configure(service="spawned").shutdown(10)
    sys.exit(sum(process.exitcode != 0 for process in children))
"""


def test_spawned_processes_have_their_own_instance_id(tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    with HttpSink() as sink:
        with Service([sys.executable, str(script)], 0, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}) as service:
            assert service.process.wait(90) == 0, service.output
        assert Counter(span.name for span in sink.received.spans) == {"run in-child": 3}
        assert len({resource["service.instance.id"] for resource in sink.received.resources}) == 3


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["import in each worker", "preload"])
def test_gunicorn_workers_have_their_own_instance_id(options: tuple[str, ...]) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with gunicorn("preloaded:app", *options, workers=2, env=env) as service:
            service.wait_until_ready()
            pids: set[int] = set()

            def both_workers_responded() -> bool:
                pids.add(httpx.get(f"{service.url}/load").json()["pid"])
                return len(pids) == 2

            wait_for(both_workers_responded, 20, "a response of each worker")
            assert service.stop() == 0
        instance_ids = {
            resource["process.pid"]: resource["service.instance.id"] for resource in sink.received.resources
        }
    assert pids <= instance_ids.keys()
    assert len({instance_ids[pid] for pid in pids}) == 2


def test_uvicorn_reload_exports_from_both_processes(tmp_path: Path) -> None:
    shutil.copy(APPS / "four_signals.py", tmp_path / "reloaded.py")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "reloaded:app", "--port", str(port), "--reload", "--no-access-log"]
    with HttpSink() as sink:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "PYTHONPATH": str(tmp_path)}
        working_directory = os.getcwd()
        os.chdir(tmp_path)  # --reload watches it
        try:
            service = Service([*command, "--reload-dir", str(tmp_path)], port, environment)
        finally:
            os.chdir(working_directory)
        with service:
            service.wait_until_ready()
            first_pid = httpx.get(f"{service.url}/internals").json()["pid"]
            (tmp_path / "reloaded.py").touch()

            def new_process_responds() -> bool:
                try:
                    return bool(httpx.get(f"{service.url}/internals", timeout=2).json()["pid"] != first_pid)
                except httpx.HTTPError:
                    return False

            wait_for(new_process_responds, 30, f"a new process; output:\n{service.output}")
            service.stop(signal.SIGTERM, 20)
        pids = {resource["process.pid"] for resource in sink.received.resources}
        spans = [span.name for span in sink.received.spans]
    assert first_pid in pids
    assert len(pids) >= 2
    assert spans.count("GET /internals") >= 2


LOOPS = """
import asyncio, threading
import connectsoft_obs as obs
telemetry = obs.configure(service="loops")
telemetry.serve()

@obs.job("in-loop", timeout=20)
async def work(number):
    await asyncio.sleep(0)
    obs.bind(order_id=number)
    return number

results = []
def run_loop(number):
    async def main():
        return await asyncio.gather(*[work(number * 100 + index) for index in range(50)])
    results.extend(asyncio.run(main()))
threads = [threading.Thread(target=run_loop, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(set(results)) == 400
assert telemetry.shutdown(20)
"""


def test_event_loops_in_several_threads_lose_no_spans() -> None:
    with HttpSink() as sink:
        result = run_script(LOOPS, env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
        assert result.exit_code == 0, result.stderr
        spans = [span for span in sink.received.spans if span.name == "run in-loop"]
    orders = {
        attribute.value.int_value for span in spans for attribute in span.attributes if attribute.key == "order_id"
    }
    assert len(spans) == len(orders) == 400


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
    execute = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    execute = interpreters.run_string
interpreter = interpreters.create()
execute(interpreter, '''
import connectsoft_obs as obs
try:
    obs.configure(service="x")
except obs.ConfigurationError as error:
    print("ConfigurationError:", error)
''')
"""


def test_configure_raises_in_a_sub_interpreter() -> None:
    result = run_script(SUBINTERPRETER)
    assert result.stdout.startswith("ConfigurationError: a sub-interpreter"), result.stdout + result.stderr
