"""Configuring twice, reloading, forking and binding many loggers adds no handlers and duplicates no lines."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.scripts import run_script

from connectsoft_obs.testing import capture


def test_binding_and_getting_loggers_adds_no_handlers() -> None:
    """Two comparable libraries write ten lines here, because each bind adds a handler."""
    code = """
import structlog, logging, connectsoft_obs as obs
obs.configure(service="x")
for number in range(4):
    structlog.get_logger("orders").info("bound", number=number)
handlers_before = len(logging.getLogger("orders").handlers)
for number in range(1000):
    structlog.get_logger("orders").bind(a=1).new(b=2)
    logging.getLogger("orders").info("standard") if number < 4 else None
    obs.get_logger("orders")
assert len(logging.getLogger("orders").handlers) == handlers_before == 0
"""
    result = run_script(code)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.messages() == ["bound"] * 4 + ["standard"] * 4


def test_line_is_written_without_waiting_for_others() -> None:
    """A comparable library buffers ten lines and loses up to nine when the process is killed."""
    code = """
import os, signal, connectsoft_obs as obs
obs.get_logger().info("one line")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_script(code).messages() == ["one line"]


def test_configuring_again_adds_no_handlers() -> None:
    code = """
import importlib, logging, warnings, structlog, connectsoft_obs as obs
for profile in ("otel", "otel", "ecs", "otel"):
    obs.configure(service="x", log_profile=profile)
import connectsoft_obs.signals.logs.stdlib as stdlib
handlers = [len(logging.getLogger().handlers)]
obs.configure(service="x", log_profile="ecs")
obs.configure(service="x", log_profile="otel")
assert handlers == [len(logging.getLogger().handlers)] == [1]
logging.warning("standard"); structlog.get_logger().info("structlog"); obs.get_logger().info("native")
warnings.warn("careful")
"""
    result = run_script(code)
    assert result.exit_code == 0, result.stderr
    assert result.messages() == ["standard", "structlog", "native", "UserWarning: careful"]


def test_forked_child_does_not_repeat_lines_of_the_parent() -> None:
    code = """
import os, sys, warnings, connectsoft_obs as obs
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn about a fork with threads
telemetry = obs.configure(service="x")
telemetry.serve()
log = obs.get_logger()
for number in range(100):
    log.info("parent", number=number)
child = os.fork()
log.info("child" if child == 0 else "parent after")
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
telemetry.shutdown()
log.info("after the shutdown")
"""
    messages = run_script(code).messages()
    assert sorted(messages) == sorted(["parent"] * 100 + ["child", "parent after", "after the shutdown"])


def test_handlers_and_levels_of_the_application_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    code = f"""
import logging, sys, connectsoft_obs as obs
root = logging.getLogger()
root.addHandler(logging.FileHandler({str(path)!r}))
root.addHandler(logging.StreamHandler(sys.stdout))
root.setLevel(logging.ERROR)
audit = logging.getLogger("audit"); audit.propagate = False; audit.setLevel(logging.INFO)
file_handler = logging.FileHandler({str(path)!r}); audit.addHandler(file_handler); audit.addHandler(logging.StreamHandler())
obs.configure(service="x")
logging.warning("below the root's level")
logging.error("an error")
audit.info("audited")
assert file_handler in audit.handlers and audit.propagate is False
"""
    result = run_script(code)
    assert result.exit_code == 0, result.stderr
    assert [(line["logger"], line["message"]) for line in result.json_lines[1:]] == [
        ("root", "an error"),
        ("audit", "audited"),
    ]
    assert result.json_lines[0]["message"] == "removed other log handlers that write to the terminal"
    assert result.json_lines[0]["connectsoft.obs.replaced"] == "audit:StreamHandler, root:StreamHandler"
    assert path.read_text().splitlines() == ["an error", "audited"]
    assert result.stderr == ""


def test_later_logging_configuration_is_taken_over_at_startup() -> None:
    code = """
import logging.config, sys, asyncio, connectsoft_obs as obs
from starlette.applications import Starlette
from starlette.testclient import TestClient
app = Starlette()
app.add_middleware(obs.ObservabilityMiddleware, service="x")
obs.configure(service="x")
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False,
    "handlers": {"c": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["c"], "level": "INFO"}})
with TestClient(app):
    logging.info("once")
"""
    result = run_script(code)
    assert result.exit_code == 0, result.stderr
    assert [message for message in result.messages() if message == "once"] == ["once"]


def test_capture_restores_the_standard_library_loggers() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with capture() as seen:
        logging.getLogger("library").info("captured")
        with capture() as inner:
            logging.getLogger("library").info("inner")
    assert seen.log("captured")["logger"] == "library"
    assert [line["message"] for line in inner.logs] == ["inner"]
    assert (root.handlers, root.level) == (handlers, level)


@pytest.mark.parametrize("value", ["loud", "-1"])
def test_logging_works_with_invalid_settings(value: str) -> None:
    code = """
import connectsoft_obs as obs
obs.get_logger().info("first line", number=1)
obs.get_logger().info("second line")
"""
    result = run_script(code, env={"CONNECTSOFT_OBS_ACCESS_LOG": value})
    assert (result.exit_code, result.stderr) == (0, "")
    first, *rest = result.json_lines
    assert first["severity"] == "ERROR"
    assert f"CONNECTSOFT_OBS_ACCESS_LOG={value!r}" in first["message"]
    assert [line["message"] for line in rest] == ["first line", "second line"]


def test_logger_created_before_configuring_follows_it() -> None:
    code = """
import connectsoft_obs as obs, structlog
native, bridged = obs.get_logger("a"), structlog.get_logger("b")
obs.configure(service="late", log_profile="ecs")
native.info("one"); bridged.info("two")
"""
    assert [(line["log.logger"], line["service.name"]) for line in run_script(code).json_lines] == [
        ("a", "late"),
        ("b", "late"),
    ]


def test_line_after_shutdown_is_written() -> None:
    code = """
import atexit, connectsoft_obs as obs
atexit.register(lambda: obs.get_logger().info("an exit handler that runs after the shutdown"))
telemetry = obs.configure(service="x")
telemetry.serve()
obs.get_logger().info("the last line of main")
"""
    assert run_script(code).messages() == ["the last line of main", "an exit handler that runs after the shutdown"]
