"""Log levels: of the root logger, of single loggers, and overrides that an operator sets at run time."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.process import Service, wait_for
from support.scripts import run_script
from support.webservers import LAUNCHERS

import connectsoft_obs as obs
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.testing import capture

TOKEN = {"authorization": "Bearer correct-horse"}
LEVEL_NAMES = ("debug", "info", "warning", "error", "critical")
LOGGERS_ENV = {"CONNECTSOFT_OBS_LOGGERS_PATH": "/loggers", "CONNECTSOFT_OBS_DETAILS_TOKEN": "correct-horse"}


def test_logger_levels_are_inherited_by_every_kind_of_logger() -> None:
    code = """
import logging, structlog, connectsoft_obs as obs
obs.configure(service="x")
for name in ("orders", "orders.db", "noisy", "noisy.pool", "ordersX"):
    obs.get_logger(name).debug("native"); obs.get_logger(name).info("native")
    structlog.get_logger(name).debug("structlog"); structlog.get_logger(name).info("structlog")
    logging.getLogger(name).debug("standard"); logging.getLogger(name).info("standard")
"""
    result = run_script(code, env={"CONNECTSOFT_OBS_LOG_LEVELS": "orders=debug,noisy=error,orders.db=info"})
    assert result.exit_code == 0, result.stderr
    lines_by_logger: dict[str, list[str]] = {}
    for line in result.json_lines:
        lines_by_logger.setdefault(line["logger"], []).append(f"{line['message']} {line['severity']}")
    info_only = ["native INFO", "structlog INFO", "standard INFO"]
    all_levels = [f"{api} {level}" for api in ("native", "structlog", "standard") for level in ("DEBUG", "INFO")]
    assert lines_by_logger == {"orders": all_levels, "orders.db": info_only, "ordersX": info_only}


@pytest.mark.parametrize(
    ("level", "enabled_levels"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)]
)
def test_level_of_the_root_logger(level: str, enabled_levels: int) -> None:
    with capture(service="x", log_level=level) as seen:
        log = obs.get_logger("orders")
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(log, method)(method)
    assert len(seen.logs) == enabled_levels


def test_logging_disable_applies_to_every_logger_but_not_to_own_lines(request: pytest.FixtureRequest) -> None:
    app = Starlette(routes=[Route("/ok", lambda _: PlainTextResponse("ok"))])
    app.add_middleware(obs.ObservabilityMiddleware)
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    with capture(service="x") as seen, TestClient(app) as client:
        loggers = (obs.get_logger("native"), structlog.get_logger("structlog"), logging.getLogger("standard"))
        logging.disable(logging.WARNING)
        seen.logs.clear()
        for log in loggers:
            log.info("disabled")
            log.warning("disabled")
            log.error("enabled")
        is_enabled = [obs.get_logger().is_enabled_for(level) for level in (logging.WARNING, logging.ERROR)]
        client.get("/ok")
        logging.disable(logging.NOTSET)
        for log in loggers:
            log.warning("enabled again")
        client.close()
    assert is_enabled == [False, True]
    assert [(line["logger"], line["message"]) for line in seen.logs if line["logger"] != "connectsoft_obs"] == [
        ("native", "enabled"), ("structlog", "enabled"), ("standard", "enabled"),
        ("connectsoft_obs.access", "GET /ok 200"),
        ("native", "enabled again"), ("structlog", "enabled again"), ("standard", "enabled again"),
    ]  # fmt: skip


def test_lines_of_every_logger_are_counted_by_severity() -> None:
    with capture(service="x") as seen:
        obs.get_logger().info("one")
        logging.getLogger("standard").warning("two")
        logging.getLogger("standard").log(35, "between two levels")
        obs.get_logger().error("three")
        obs.get_logger().debug("not written")
    counts = {name: seen.metric("connectsoft.log.records", connectsoft_log_severity=name).value for name in LEVEL_NAMES}
    assert counts == {"debug": 0, "info": 1, "warning": 2, "error": 1, "critical": 0}


def test_access_line_is_counted() -> None:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("x"))])
    app.add_middleware(obs.ObservabilityMiddleware, service="x")
    with capture(service="x") as seen, TestClient(app) as client:
        client.get("/")
    written = sum(1 for line in seen.logs if line["severity"] == "INFO")
    assert seen.metric("connectsoft.log.records", connectsoft_log_severity="info").value == written


# --- At run time -----------------------------------------------------------------------------------------------------


# Processes with the same parent and service name share run-time levels, and so do parallel test workers. Therefore each
# test has a service name of its own.


def app_with(service: str) -> Starlette:
    async def debug(_: Any) -> PlainTextResponse:
        obs.get_logger("chatty.native").debug("native debug")
        logging.getLogger("chatty.standard").debug("standard debug")
        return PlainTextResponse("logged")

    app = Starlette(routes=[Route("/debug", debug)])
    app.add_middleware(obs.ObservabilityMiddleware, service=service)
    return app


def test_loggers_endpoint_requires_a_path_and_a_token() -> None:
    with capture(service="no-levels"), TestClient(app_with("no-levels")) as client:
        assert client.put("/loggers/chatty?level=debug", headers=TOKEN).status_code == 404
    with pytest.raises(ConfigurationError, match="DETAILS_TOKEN"), capture(loggers_path="/loggers"):
        pass


def test_loggers_endpoint_rejects_wrong_tokens_and_parameters() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse", "loggers_override_ttl": 60.0}
    with capture(service="rejected-levels", **settings) as seen, TestClient(app_with("rejected-levels")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic correct-horse"}):
            response = client.put("/loggers/chatty?level=debug", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/loggers", headers=headers).status_code == 401
        for path in (
            "/loggers?level=debug", "/loggers/chatty", "/loggers/chatty?level=loud", "/loggers/chatty?level=debug&seconds=61",
            "/loggers/chatty?level=debug&seconds=-1", "/loggers/chatty?level=debug&seconds=nan",
            "/loggers/chatty?level=debug&seconds=soon", f"/loggers/{'x' * 300}?level=debug", "/loggers/%0a?level=debug",
        ):  # fmt: skip
            assert client.put(path, headers=TOKEN).status_code == 400, path
        assert client.get("/debug").status_code == 200
        assert client.post("/loggers/chatty?level=debug", headers=TOKEN).status_code in (404, 405)
        assert client.get("/loggers", headers=TOKEN).json() == {"loggers": {"root": {"level": "info"}}}
    assert not [line for line in seen.logs if line["message"].startswith(("native debug", "log level"))]


def test_override_applies_to_native_and_standard_loggers_and_expires() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse"}
    standard = logging.getLogger("chatty.standard")
    levels_before = standard.level, logging.getLogger("chatty").level
    with capture(service="expiring-levels", **settings) as seen, TestClient(app_with("expiring-levels")) as client:
        client.get("/debug")
        response = client.put("/loggers/chatty?level=debug&seconds=1.2", headers=TOKEN)
        assert response.status_code == 200
        assert response.json()["level"] == "debug"
        assert 0 < response.json()["until"] - time.time() <= 1.2
        assert client.get("/loggers/chatty.native", headers=TOKEN).json() == {"level": "debug"}
        client.get("/debug")
        reset = "log level was reset to its configured value"
        wait_for(lambda: [line for line in seen.logs if line["message"] == reset], 5, "the override to expire")
        client.get("/debug")
    assert [line["message"] for line in seen.logs if line["logger"].startswith("chatty")] == [
        "native debug",
        "standard debug",
    ]
    change = seen.log("log level was set at run time")
    assert (
        change["logger"],
        change["connectsoft.obs.name"],
        change["connectsoft.obs.level"],
        change["connectsoft.obs.seconds"],
    ) == (
        "connectsoft_obs",
        "chatty",
        "debug",
        1,
    )
    assert (standard.level, logging.getLogger("chatty").level) == levels_before


def test_override_can_raise_the_level_and_be_replaced() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse", "log_level": "debug"}
    with capture(service="replaced-levels", **settings) as seen, TestClient(app_with("replaced-levels")) as client:
        assert client.put("/loggers/root?level=error", headers=TOKEN).json()["level"] == "error"
        assert client.get("/loggers/chatty.native", headers=TOKEN).json() == {"level": "error"}
        client.get("/debug")
        assert client.put("/loggers/root?level=debug", headers=TOKEN).json()["level"] == "debug"
        client.get("/debug")
        client.put("/loggers/root?level=debug&seconds=0", headers=TOKEN)
    messages = [line["message"] for line in seen.logs if line["logger"].startswith("chatty")]
    assert messages.count("native debug") == 1
    changes = [
        line["connectsoft.obs.level"] for line in seen.logs if line["message"] == "log level was set at run time"
    ]
    assert changes == ["error", "debug"], "a level that disables INFO is logged anyway"
    assert [line["http.route"] for line in seen.logs if line["logger"] == "connectsoft_obs.access"] == ["/debug"]


def test_override_of_a_long_name_applies_and_its_files_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse"}
    name = "ü" * 190

    def files() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.parent.name.startswith("levels-")]

    with capture(service="long-levels", **settings), TestClient(app_with("long-levels")) as client:
        assert not list(tmp_path.rglob("levels-*")), "nothing is written before an operator sets a level"
        for other in ("a", "b"):
            client.put(f"/loggers/{name}{other}?level=warning", headers=TOKEN)
            client.put(f"/loggers/{name}{other}?level=debug&seconds=600", headers=TOKEN)
        loggers = client.get("/loggers", headers=TOKEN).json()["loggers"]
        assert {logger: fields["level"] for logger, fields in loggers.items()} == {
            "root": "info", f"{name}a": "debug", f"{name}b": "debug",
        }  # fmt: skip
        assert len(files()) == 2, "an override replaces the earlier one of its logger"
        for other in ("a", "b"):
            client.put(f"/loggers/{name}{other}?level=debug&seconds=0", headers=TOKEN)
        assert client.get("/loggers", headers=TOKEN).json()["loggers"] == {"root": {"level": "info"}}
        assert files() == []
    assert not list(tmp_path.rglob("levels-*"))


FULL_RUN_ONLY = [pytest.param(name, marks=pytest.mark.full) for name in ("uvicorn", "granian", "hypercorn")]


@pytest.mark.parametrize("server", ["gunicorn", *FULL_RUN_ONLY])
def test_override_applies_to_every_worker(server: str) -> None:
    with LAUNCHERS[server]("chatty_logging:app", workers=3, env=LOGGERS_ENV) as service:
        service.wait_until_ready()
        # With some servers the first worker is ready before the others; each has a start-up line.
        wait_for(lambda: len(lines_with(service, "observability configured")) == 3, 15, "three workers")
        httpx.put(f"{service.url}/loggers/chatty?level=debug&seconds=600", headers=TOKEN).raise_for_status()
        wait_for(lambda: len(lines_with(service, "log level was set at run time")) == 3, 10, "the line of each worker")
        for _ in range(10):  # any worker may handle the request
            httpx.get(f"{service.url}/debug").raise_for_status()
        service.stop()
    assert len(lines_with(service, "native debug")) == len(lines_with(service, "standard debug")) == 10


@pytest.mark.full
def test_override_does_not_apply_to_other_starts_of_the_service() -> None:
    """The workers of one start have the same parent process, which distinguishes them from all others."""
    with (
        LAUNCHERS["uvicorn"]("chatty_logging:app", workers=2, env=LOGGERS_ENV) as first,
        LAUNCHERS["uvicorn"]("chatty_logging:app", workers=2, env=LOGGERS_ENV) as second,
    ):
        for service in (first, second):
            service.wait_until_ready()
        wait_for(
            lambda: all(len(lines_with(each, "observability configured")) == 2 for each in (first, second)),
            15,
            "two workers each",
        )
        httpx.put(f"{first.url}/loggers/chatty?level=debug&seconds=600", headers=TOKEN).raise_for_status()
        wait_for(lambda: len(lines_with(first, "log level was set at run time")) == 2, 10, "the line of each worker")
        first.stop()
        with LAUNCHERS["uvicorn"]("chatty_logging:app", workers=2, env=LOGGERS_ENV) as later:
            later.wait_until_ready()
            for service in (second, later):
                for _ in range(5):
                    httpx.get(f"{service.url}/debug").raise_for_status()
                assert httpx.get(f"{service.url}/loggers", headers=TOKEN).json() == {
                    "loggers": {"root": {"level": "info"}}
                }
                service.stop()
    assert lines_with(second, "native debug") == lines_with(later, "native debug") == []
    assert (
        lines_with(second, "log level was set at run time") == lines_with(later, "log level was set at run time") == []
    )


def lines_with(service: Service, message: str) -> list[dict[str, Any]]:
    return [line for line in service.json_lines if line["message"] == message]
