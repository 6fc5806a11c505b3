"""Configuring twice, reloading, forking, binding a thousand loggers: nothing is added, and nothing is there twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.scripts import run

from connectsoft_obs.testing import capture


def test_four_binds_and_four_calls_are_four_lines() -> None:
    """Two of our peers print ten: each bind adds a handler."""
    code = """
import structlog, logging, connectsoft_obs as obs
obs.configure(service="x")
for number in range(4):
    structlog.get_logger("orders").info("bound", number=number)
before = len(logging.getLogger("orders").handlers)
for number in range(1000):
    structlog.get_logger("orders").bind(a=1).new(b=2)
    logging.getLogger("orders").info("standard") if number < 4 else None
    obs.get_logger("orders")
assert len(logging.getLogger("orders").handlers) == before == 0
"""
    ended = run(code)
    assert (ended.code, ended.err) == (0, "")
    assert ended.messages() == ["bound"] * 4 + ["standard"] * 4


def test_no_line_waits_for_nine_others() -> None:
    """A peer keeps ten lines in memory and loses the last nine when it is killed."""
    code = """
import os, signal, connectsoft_obs as obs
obs.get_logger().info("one line")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(code).messages() == ["one line"]


def test_configuring_twice_and_differently_and_importing_again_adds_nothing() -> None:
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
    ended = run(code)
    assert ended.code == 0, ended.err
    assert ended.messages() == ["standard", "structlog", "native", "UserWarning: careful"]


def test_a_forked_child_says_its_lines_once_and_the_parents_not_again() -> None:
    code = """
import os, sys, warnings, connectsoft_obs as obs
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, of a fork beside threads
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
    messages = run(code).messages()
    assert sorted(messages) == sorted(["parent"] * 100 + ["child", "parent after", "after the shutdown"])


def test_handlers_and_levels_that_somebody_set_stay(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    code = f"""
import logging, sys, connectsoft_obs as obs
root = logging.getLogger()
root.addHandler(logging.FileHandler({str(path)!r}))
root.addHandler(logging.StreamHandler(sys.stdout))
root.setLevel(logging.ERROR)
audit = logging.getLogger("audit"); audit.propagate = False; audit.setLevel(logging.INFO)
kept = logging.FileHandler({str(path)!r}); audit.addHandler(kept); audit.addHandler(logging.StreamHandler())
obs.configure(service="x")
logging.warning("below the root's level")
logging.error("an error")
audit.info("audited")
assert kept in audit.handlers and audit.propagate is False
"""
    ended = run(code)
    assert ended.code == 0, ended.err
    assert [(line["logger"], line["message"]) for line in ended.lines[1:]] == [
        ("root", "an error"),
        ("audit", "audited"),
    ]
    assert "replaced" in ended.lines[0]["message"]
    assert ended.lines[0]["replaced"] == "audit:StreamHandler, root:StreamHandler"
    assert path.read_text().splitlines() == ["an error", "audited"]
    assert ended.err == ""


def test_what_is_configured_after_us_is_taken_over_when_the_process_serves() -> None:
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
    ended = run(code)
    assert ended.code == 0, ended.err
    assert [message for message in ended.messages() if message == "once"] == ["once"]


def test_a_capture_sees_the_standard_library_and_leaves_it_as_it_was() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    with capture() as seen:
        logging.getLogger("library").info("captured")
        with capture() as inner:
            logging.getLogger("library").info("inner")
    assert seen.log("captured")["logger"] == "library"
    assert [line["message"] for line in inner.logs] == ["inner"]
    assert (root.handlers, root.level) == (before, level)


@pytest.mark.parametrize("level", ["loud", "-1"])
def test_logging_never_raises_where_the_settings_cannot_work(level: str) -> None:
    code = """
import connectsoft_obs as obs
obs.get_logger().info("still said", number=1)
obs.get_logger().info("and again")
"""
    ended = run(code, env={"LOG_LEVEL": level})
    assert (ended.code, ended.err) == (0, "")
    first, *rest = ended.lines
    assert first["severity"] == "ERROR"
    assert f"LOG_LEVEL={level!r}" in first["message"]
    assert [line["message"] for line in rest] == ["still said", "and again"]


def test_a_logger_made_before_configuring_follows_it() -> None:
    code = """
import connectsoft_obs as obs, structlog
native, other = obs.get_logger("a"), structlog.get_logger("b")
obs.configure(service="late", log_profile="ecs")
native.info("one"); other.info("two")
"""
    assert [(line["log.logger"], line["service.name"]) for line in run(code).lines] == [("a", "late"), ("b", "late")]


def test_a_line_after_main_has_ended_is_not_lost() -> None:
    code = """
import atexit, connectsoft_obs as obs
atexit.register(lambda: obs.get_logger().info("an exit handler that runs after ours"))
telemetry = obs.configure(service="x")
telemetry.serve()
obs.get_logger().info("the last line of main")
"""
    assert run(code).messages() == ["the last line of main", "an exit handler that runs after ours"]
