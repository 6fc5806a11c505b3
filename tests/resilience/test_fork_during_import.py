"""A fork while an exporter thread imports a module does not leave a locked import lock in the child."""

from __future__ import annotations

import pytest
from support.app_insights_server import AppInsightsServer
from support.otlp import HttpSink
from support.scripts import run_script

SLOW_IMPORT_FINDER = """
import faulthandler, importlib, importlib.machinery, os, sys, threading, time
import connectsoft_obs as obs
from connectsoft_obs.process import fork_safety
importing = threading.Event()
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            exec_module = spec.loader.exec_module
            def exec_slowly(module):
                importing.set()
                delay(exec_module, module)
            spec.loader.exec_module = exec_slowly
            return spec
sys.meta_path.insert(0, Finder())
def start():
    telemetry = obs.configure(service="forking", shutdown_timeout=5)
    telemetry.serve()
    with obs.operation("parent"):
        pass
    assert importing.wait(10)
    return telemetry
"""

FORK_DURING_IMPORT = """
forked = threading.Event()
os.register_at_fork(after_in_parent=forked.set)
def delay(exec_module, module):
    forked.wait(0.5)  # a fork that does not wait for the import happens here
    exec_module(module)
telemetry = start()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(30, exit=True)
    importlib.import_module(sys.argv[1])  # not in a new thread, whose id may equal that of the parent's exporter thread
    with obs.operation("child"):
        pass
    os._exit(0 if telemetry.shutdown(5) else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

IMPORT_WAITS_FOR_FORK = """
fork_safety.FORK_IMPORT_TIMEOUT = 0.5
fork_lock = threading.Lock()
os.register_at_fork(before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=fork_lock.release)
def delay(exec_module, module):
    while not fork_lock.locked():
        time.sleep(0.001)
    with fork_lock:
        exec_module(module)
telemetry = start()
failed = 0
for _ in range(2):  # the second fork checks that the first one released the lock
    child = os.fork()
    if child == 0:
        os._exit(0)
    failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(failed + (not telemetry.shutdown(5)))
"""


def test_fork_waits_for_an_import_of_the_exporter_thread() -> None:
    with HttpSink() as sink:
        result = run_script(
            SLOW_IMPORT_FINDER + FORK_DURING_IMPORT,
            "connectsoft_obs.export.http",
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url},
        )
        assert result.exit_code == 0, result.stderr
        assert "run child" in [span.name for span in sink.received.spans]


def test_fork_wait_for_an_import_has_a_timeout() -> None:
    with HttpSink() as sink:
        result = run_script(
            SLOW_IMPORT_FINDER + IMPORT_WAITS_FOR_FORK,
            "connectsoft_obs.export.http",
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url},
        )
        assert result.exit_code == 0, result.stderr
        assert "run parent" in [span.name for span in sink.received.spans]


def test_fork_waits_for_the_import_of_the_azure_exporter() -> None:
    with AppInsightsServer() as azure:
        environment = {
            "APPLICATIONINSIGHTS_CONNECTION_STRING": azure.connection_string,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        }
        result = run_script(
            SLOW_IMPORT_FINDER + FORK_DURING_IMPORT, "connectsoft_obs.export.azure_monitor.exporter", env=environment
        )
        assert result.exit_code == 0, result.stderr
        assert azure.envelopes_named("RequestData", "run child")


FORK_DURING_LAZY_IMPORT = """
import faulthandler, importlib, importlib.machinery, os, sys, threading
import connectsoft_obs as obs
module_name, name = sys.argv[1:]
importing, forked = threading.Event(), threading.Event()
os.register_at_fork(after_in_parent=forked.set)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != module_name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        exec_module = spec.loader.exec_module
        def exec_slowly(module):
            importing.set()
            forked.wait(0.5)  # a fork that does not wait for the import happens here
            exec_module(module)
        spec.loader.exec_module = exec_slowly
        return spec
assert module_name not in sys.modules
sys.meta_path.insert(0, Finder())
threading.Thread(target=lambda: getattr(obs, name)).start()
assert importing.wait(10)
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(30, exit=True)
    getattr(obs, name)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("connectsoft_obs.work.jobs", "job"),
        ("connectsoft_obs.telemetry.telemetry", "counter"),
        ("connectsoft_obs.slo.model", "slo"),
        ("connectsoft_obs.process.fork_safety", "operation"),
    ],
)
def test_fork_during_first_use_of_a_name_waits_for_the_import(module: str, name: str) -> None:
    result = run_script(FORK_DURING_LAZY_IMPORT, module, name, timeout=60)
    assert result.exit_code == 0, result.stderr
