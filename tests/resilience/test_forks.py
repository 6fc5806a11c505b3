"""Processes of every kind: each reports as itself, what it had is its parent's, and none hangs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.app_insights_server import Ingestion
from support.otlp import HttpSink
from support.process import APPS, Service, free_port, gunicorn, wait_for
from support.scripts import run

FORKS = """
import faulthandler, os, sys, threading, time
import connectsoft_obs as obs
from opentelemetry import trace
telemetry = obs.configure(service="forking", shutdown_timeout=20)
telemetry.serve()
log, done, made = obs.get_logger("fork"), threading.Event(), obs.counter("fork.made")
tracer = trace.get_tracer("fork")
def load():
    while not done.is_set():
        with obs.operation("load"), tracer.start_as_current_span("busy"):
            made.add(1)
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
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.002)
    failed += ended[1] != 0
done.set()
for thread in threads: thread.join()
telemetry.shutdown()
os._exit(min(failed, 100))
"""

IMPORTING = """
import faulthandler, importlib, importlib.machinery, os, sys, threading, time
import connectsoft_obs as obs
from connectsoft_obs.process import fork_safety
importing = threading.Event()
class Around:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            execute = spec.loader.exec_module
            def executed(module):
                importing.set()
                around(execute, module)
            spec.loader.exec_module = executed
            return spec
sys.meta_path.insert(0, Around())
def begin():
    telemetry = obs.configure(service="forking", shutdown_timeout=5)
    telemetry.serve()
    with obs.operation("parent"):
        pass
    assert importing.wait(10)
    return telemetry
"""

SLOW = """
forked = threading.Event()
os.register_at_fork(after_in_parent=forked.set)
def around(execute, module):
    forked.wait(0.5)  # a fork that does not wait comes in here
    execute(module)
telemetry = begin()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(30, exit=True)
    importlib.import_module(sys.argv[1])  # in this thread, as the child's exporter may have the number of the parent's
    with obs.operation("child"):
        pass
    os._exit(0 if telemetry.shutdown(5) else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

HELD = """
fork_safety.FORK_IMPORT_TIMEOUT = 0.5
held = threading.Lock()
os.register_at_fork(before=held.acquire, after_in_parent=held.release, after_in_child=held.release)
def around(execute, module):
    while not held.locked():
        time.sleep(0.001)
    with held:
        execute(module)
telemetry = begin()
failed = 0
for _ in range(2):  # after the first one, the lock that forks wait for must be nobody's
    child = os.fork()
    if child == 0:
        os._exit(0)
    failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(failed + (not telemetry.shutdown(5)))
"""


def fork_under_load(times: int, seconds: float) -> None:
    with HttpSink() as sink:
        ended = run(FORKS, str(times), env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, timeout=seconds)
        assert ended.code == 0, f"{ended.code} children hung or could not send: {ended.err[-2000:]}"
        names = Counter(span.name for span in sink.received.spans if span.name.startswith("child-"))
        assert names == {f"child-{number}": 1 for number in range(times)}
        instances = {resource["service.instance.id"] for resource in sink.received.resources}
        assert len(instances) == times + 1
        assert sum(f"in child {number}" in ended.out for number in range(times)) == times


def test_a_fork_under_load_hangs_nowhere_and_each_child_sends_its_own() -> None:
    fork_under_load(20, 120)


def test_a_fork_while_a_thread_of_ours_imports_leaves_the_child_no_locked_module() -> None:
    with HttpSink() as sink:
        ended = run(IMPORTING + SLOW, "connectsoft_obs.export.http", env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
        assert ended.code == 0, ended.err
        assert "run child" in [span.name for span in sink.received.spans]


def test_an_import_that_waits_for_what_a_fork_holds_delays_the_fork_and_no_more() -> None:
    with HttpSink() as sink:
        ended = run(IMPORTING + HELD, "connectsoft_obs.export.http", env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
        assert ended.code == 0, ended.err
        assert "run parent" in [span.name for span in sink.received.spans]


def test_a_fork_while_azures_exporter_is_imported_leaves_the_child_no_locked_module() -> None:
    with Ingestion() as azure:
        environment = {
            "APPLICATIONINSIGHTS_CONNECTION_STRING": azure.connection_string,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        }
        ended = run(IMPORTING + SLOW, "connectsoft_obs.export.azure_monitor.exporter", env=environment)
        assert ended.code == 0, ended.err
        assert azure.named("RequestData", "run child")


@pytest.mark.full
def test_two_hundred_forks_under_load() -> None:
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
    for one in children: one.start()
    for one in children: one.join(60)
    obs.configure(service="spawned").shutdown(10)
    sys.exit(sum(one.exitcode != 0 for one in children))
"""


def test_spawned_processes_report_as_themselves(tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    with HttpSink() as sink:
        with Service([sys.executable, str(script)], 0, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}) as service:
            assert service.process.wait(90) == 0, service.said
        assert Counter(span.name for span in sink.received.spans) == {"run in-child": 3}
        assert len({resource["service.instance.id"] for resource in sink.received.resources}) == 3


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["each worker imports", "preload"])
def test_workers_of_gunicorn_report_as_themselves(options: tuple[str, ...]) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with gunicorn("preloaded:app", *options, workers=2, env=env) as service:
            service.ready()
            pids: set[int] = set()

            def both() -> bool:
                pids.add(httpx.get(f"{service.url}/load").json()["pid"])
                return len(pids) == 2

            wait_for(both, 20, "an answer of each worker")
            assert service.stop() == 0
        by_pid = {resource["process.pid"]: resource["service.instance.id"] for resource in sink.received.resources}
    assert pids <= by_pid.keys()
    assert len({by_pid[pid] for pid in pids}) == 2


def test_a_reload_of_uvicorn_ends_one_life_and_begins_another(tmp_path: Path) -> None:
    shutil.copy(APPS / "four_signals.py", tmp_path / "reloaded.py")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "reloaded:app", "--port", str(port), "--reload", "--no-access-log"]
    with HttpSink() as sink:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "PYTHONPATH": str(tmp_path)}
        before = os.getcwd()
        os.chdir(tmp_path)  # what --reload watches
        try:
            service = Service([*command, "--reload-dir", str(tmp_path)], port, environment)
        finally:
            os.chdir(before)
        with service:
            service.ready()
            first = httpx.get(f"{service.url}/inside").json()["pid"]
            (tmp_path / "reloaded.py").touch()

            def other() -> bool:
                try:
                    return bool(httpx.get(f"{service.url}/inside", timeout=2).json()["pid"] != first)
                except httpx.HTTPError:
                    return False

            wait_for(other, 30, f"a new process; it said:\n{service.said}")
            service.stop(signal.SIGTERM, 20)
        pids = {resource["process.pid"] for resource in sink.received.resources}
        spans = [span.name for span in sink.received.spans]
    assert first in pids
    assert len(pids) >= 2
    assert spans.count("GET /inside") >= 2


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

found = []
def thread(number):
    async def main():
        return await asyncio.gather(*[work(number * 100 + one) for one in range(50)])
    found.extend(asyncio.run(main()))
threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
for one in threads: one.start()
for one in threads: one.join()
assert len(set(found)) == 400
assert telemetry.shutdown(20)
"""


def test_threads_with_loops_of_their_own_lose_nothing() -> None:
    with HttpSink() as sink:
        ended = run(LOOPS, env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
        assert ended.code == 0, ended.err
        spans = [span for span in sink.received.spans if span.name == "run in-loop"]
    orders = {
        attribute.value.int_value for span in spans for attribute in span.attributes if attribute.key == "order_id"
    }
    assert len(spans) == len(orders) == 400


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
    execute = lambda made, code: interpreters.exec(made, code)
except ImportError:
    import _xxsubinterpreters as interpreters
    execute = interpreters.run_string
made = interpreters.create()
execute(made, '''
import connectsoft_obs as obs
try:
    obs.configure(service="x")
except obs.ConfigurationError as error:
    print("refused:", error)
''')
"""


def test_a_sub_interpreter_is_refused_and_told_why() -> None:
    ended = run(SUBINTERPRETER)
    assert ended.out.startswith("refused: a sub-interpreter"), ended.out + ended.err
