"""Hooks of the process for warnings and uncaught exceptions, beside those of applications and test tools."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVICE = """
import sys, threading, warnings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
import connectsoft_obs as obs

async def handler(request):
    warnings.warn("from the handler")
    return PlainTextResponse("done")

app = Starlette(routes=[Route("/", handler)])
app.add_middleware(obs.ObservabilityMiddleware, service="warns")
"""

FIRST_USES = {
    "request": "TestClient(app).get('/')",
    "lifespan": "with TestClient(app) as client: client.get('/')",
    "log line": "obs.get_logger().info('first'); warnings.warn('from the handler')",
    "configure": "obs.configure(service='warns'); warnings.warn('from the handler')",
    "operation": "with obs.operation('first'): warnings.warn('from the handler')",
}


def run(code: str) -> tuple[list[str], list[str], int]:
    """Run a program. Return its lines on standard output, those on standard error, and its exit status."""
    command = [sys.executable, "-c", SERVICE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.splitlines(), done.stderr.splitlines(), done.returncode


@pytest.mark.parametrize("first_use", FIRST_USES)
def test_warnings_that_the_caller_records_are_recorded(first_use: str) -> None:
    _, errors, _ = run(f"""
default = warnings.showwarning
with warnings.catch_warnings(record=True) as recorded:
    warnings.simplefilter("always")
    {FIRST_USES[first_use]}
print("recorded", sum("from the handler" in str(warning.message) for warning in recorded), file=sys.stderr)
print("restored", warnings.showwarning is default, file=sys.stderr)
""")
    assert errors == ["recorded 1", "restored True"]


def test_warnings_recorded_by_pytest_at_the_first_request() -> None:
    _, errors, status = run("""
import pytest
with pytest.warns(UserWarning, match="from the handler"):
    TestClient(app).get("/")
""")
    assert (errors, status) == ([], 0)


@pytest.mark.parametrize("block", ["if True:", "with warnings.catch_warnings():"])
def test_warnings_are_logged_from_the_start_of_the_application_on(block: str) -> None:
    lines, errors, _ = run(f"""
{block}
    obs.get_logger().info("first")
with TestClient(app) as client:
    client.get("/")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("later")
""")
    assert errors == []
    assert [line for line in lines if "UserWarning: from the handler" in line and '"severity":"WARN"' in line]
    assert [line for line in lines if "UserWarning: later" in line and '"severity":"WARN"' in line]


HOOK = """
obs.configure(service="warns")
previous, previous_thread = sys.excepthook, threading.excepthook
def hook(*args):
    print("another tool", file=sys.stderr)
    previous(*args)
def thread_hook(args):
    print("another tool", file=sys.stderr)
    previous_thread(args)
"""


def test_exception_hook_that_is_set_later_and_the_first_one_run_once() -> None:
    lines, errors, status = run(f"""{HOOK}
sys.excepthook = hook
with TestClient(app):
    pass
raise ValueError("boom")
""")
    assert (errors, status) == (["another tool"], 1)
    assert len([line for line in lines if "uncaught exception" in line and "boom" in line]) == 1


def test_thread_hook_that_is_set_later_and_the_first_one_run_once() -> None:
    lines, errors, _ = run(f"""{HOOK}
threading.excepthook = thread_hook
with TestClient(app):
    pass
def fail():
    raise ValueError("boom")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
""")
    assert errors == ["another tool"]
    assert len([line for line in lines if "uncaught exception in a thread" in line]) == 1


def test_exception_hook_that_a_test_tool_restored_is_set_again_at_the_start() -> None:
    lines, errors, _ = run("""
obs.configure(service="warns")
sys.excepthook = sys.__excepthook__
with TestClient(app):
    pass
raise ValueError("boom")
""")
    assert errors == []
    assert len([line for line in lines if "uncaught exception" in line]) == 1
