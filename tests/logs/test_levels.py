"""Levels: of all loggers, of single ones, and those that an operator sets while the service runs."""

from __future__ import annotations

import logging
import time
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.process import Service, wait_for
from support.scripts import run
from support.webservers import ALL

import connectsoft_obs as obs
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.testing import capture

TOKEN = {"authorization": "Bearer correct-horse"}
WORDS = ("debug", "info", "warning", "error", "critical")
ON = {"CONNECTSOFT_OBS_LOGGERS_PATH": "/loggers", "CONNECTSOFT_OBS_DETAILS_TOKEN": "correct-horse"}


def test_levels_of_single_loggers_hold_for_what_is_below_them_and_for_every_kind_of_logger() -> None:
    code = """
import logging, structlog, connectsoft_obs as obs
obs.configure(service="x")
for name in ("orders", "orders.db", "noisy", "noisy.pool", "ordersX"):
    obs.get_logger(name).debug("native"); obs.get_logger(name).info("native")
    structlog.get_logger(name).debug("structlog"); structlog.get_logger(name).info("structlog")
    logging.getLogger(name).debug("standard"); logging.getLogger(name).info("standard")
"""
    ended = run(code, env={"CONNECTSOFT_OBS_LOG_LEVELS": "orders=debug,noisy=error,orders.db=info"})
    assert ended.code == 0, ended.err
    said: dict[str, list[str]] = {}
    for line in ended.lines:
        said.setdefault(line["logger"], []).append(f"{line['message']} {line['severity']}")
    plain = ["native INFO", "structlog INFO", "standard INFO"]
    every = [f"{one} {level}" for one in ("native", "structlog", "standard") for level in ("DEBUG", "INFO")]
    assert said == {"orders": every, "orders.db": plain, "ordersX": plain}


@pytest.mark.parametrize(("word", "lowest"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_the_level_of_all_loggers(word: str, lowest: int) -> None:
    with capture(service="x", log_level=word) as seen:
        log = obs.get_logger("orders")
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(log, method)(method)
    assert len(seen.logs) == lowest


def test_lines_are_counted_by_severity_whatever_wrote_them() -> None:
    with capture(service="x") as seen:
        obs.get_logger().info("one")
        logging.getLogger("standard").warning("two")
        logging.getLogger("standard").log(35, "between two levels")
        obs.get_logger().error("three")
        obs.get_logger().debug("not written")
    counted = {name: seen.metric("connectsoft.log.records", connectsoft_log_severity=name).value for name in WORDS}
    assert counted == {"debug": 0, "info": 1, "warning": 2, "error": 1, "critical": 0}


def test_the_access_line_is_counted_too() -> None:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("x"))])
    app.add_middleware(obs.ObservabilityMiddleware, service="x")
    with capture(service="x") as seen, TestClient(app) as client:
        client.get("/")
    written = sum(1 for line in seen.logs if line["severity"] == "INFO")
    assert seen.metric("connectsoft.log.records", connectsoft_log_severity="info").value == written


# --- At run time -----------------------------------------------------------------------------------------------------


def app_with(**settings: Any) -> Starlette:
    async def debug(_: Any) -> PlainTextResponse:
        obs.get_logger("talk.native").debug("native debug")
        logging.getLogger("talk.standard").debug("standard debug")
        return PlainTextResponse("said")

    app = Starlette(routes=[Route("/debug", debug)])
    app.add_middleware(obs.ObservabilityMiddleware, service="levels", **settings)
    return app


def test_it_is_off_unless_a_path_is_set_and_refused_without_a_token() -> None:
    with capture(service="levels"), TestClient(app_with()) as client:
        assert client.put("/loggers/talk?level=debug", headers=TOKEN).status_code == 404
    with pytest.raises(ConfigurationError, match="DETAILS_TOKEN"), capture(service="levels", loggers_path="/loggers"):
        pass


def test_only_the_token_opens_it_and_nonsense_is_refused() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse", "loggers_override_ttl": 60.0}
    with capture(service="levels", **settings) as seen, TestClient(app_with()) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic correct-horse"}):
            refused = client.put("/loggers/talk?level=debug", headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/loggers", headers=headers).status_code == 401
        for path in (
            "/loggers?level=debug", "/loggers/talk", "/loggers/talk?level=loud", "/loggers/talk?level=debug&seconds=61",
            "/loggers/talk?level=debug&seconds=-1", "/loggers/talk?level=debug&seconds=nan",
            "/loggers/talk?level=debug&seconds=soon", f"/loggers/{'x' * 300}?level=debug", "/loggers/%0a?level=debug",
        ):  # fmt: skip
            assert client.put(path, headers=TOKEN).status_code == 400, path
        assert client.get("/debug").status_code == 200
        assert client.post("/loggers/talk?level=debug", headers=TOKEN).status_code in (404, 405)
        assert client.get("/loggers", headers=TOKEN).json() == {"loggers": {"root": {"level": "info"}}}
    assert not [line for line in seen.logs if line["message"].startswith(("native debug", "log level"))]


def test_a_level_holds_for_native_and_standard_loggers_and_ends_by_itself() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse"}
    standard = logging.getLogger("talk.standard")
    before = standard.level, logging.getLogger("talk").level
    with capture(service="levels", **settings) as seen, TestClient(app_with()) as client:
        client.get("/debug")
        answer = client.put("/loggers/talk?level=debug&seconds=1.2", headers=TOKEN)
        assert answer.status_code == 200
        assert answer.json()["level"] == "debug"
        assert 0 < answer.json()["until"] - time.time() <= 1.2
        assert client.get("/loggers/talk.native", headers=TOKEN).json() == {"level": "debug"}
        client.get("/debug")
        back = "log level is back to what was configured"
        wait_for(lambda: [line for line in seen.logs if line["message"] == back], 5, "the end of the level")
        client.get("/debug")
    assert [line["message"] for line in seen.logs if line["logger"].startswith("talk")] == [
        "native debug",
        "standard debug",
    ]
    change = seen.log("log level was set at run time")
    assert (change["logger"], change["name"], change["level"], change["seconds"]) == (
        "connectsoft_obs",
        "talk",
        "debug",
        1,
    )
    assert (standard.level, logging.getLogger("talk").level) == before


def test_a_quieter_level_silences_and_a_second_one_replaces_the_first() -> None:
    settings = {"loggers_path": "/loggers", "details_token": "correct-horse", "log_level": "debug"}
    with capture(service="levels", **settings) as seen, TestClient(app_with()) as client:
        client.put("/loggers/root?level=error", headers=TOKEN)
        client.get("/debug")
        client.put("/loggers/root?level=debug", headers=TOKEN)
        client.get("/debug")
        client.put("/loggers/root?level=debug&seconds=0", headers=TOKEN)
    said = [line["message"] for line in seen.logs if line["logger"].startswith("talk")]
    assert said.count("native debug") == 1
    changes = [line["level"] for line in seen.logs if line["message"] == "log level was set at run time"]
    assert changes == ["error", "debug"], "a level that silences everything is told all the same"
    assert [line["http.route"] for line in seen.logs if line["logger"] == "connectsoft_obs.access"] == ["/debug"]


LONG = [pytest.param(name, marks=pytest.mark.full) for name in ("uvicorn", "granian", "hypercorn")]


@pytest.mark.parametrize("server", ["gunicorn", *LONG])
def test_it_reaches_every_worker(server: str) -> None:
    with ALL[server]("chatty_logging:app", workers=3, env=ON) as service:
        service.ready()
        # The supervisor of some servers answers with the first worker; the others are told by their start-up lines.
        wait_for(lambda: len(of(service, "observability is on")) == 3, 15, "three workers")
        httpx.put(f"{service.url}/loggers/talk?level=debug&seconds=600", headers=TOKEN).raise_for_status()
        wait_for(lambda: len(of(service, "log level was set at run time")) == 3, 10, "each worker says so itself")
        for _ in range(10):  # whichever worker answers
            httpx.get(f"{service.url}/debug").raise_for_status()
        service.stop()
    assert len(of(service, "native debug")) == len(of(service, "standard debug")) == 10


@pytest.mark.full
def test_it_reaches_no_other_service_of_the_same_name_and_no_later_start() -> None:
    """Workers share nothing but their parent, and that is what tells them from all others."""
    with (
        ALL["uvicorn"]("chatty_logging:app", workers=2, env=ON) as one,
        ALL["uvicorn"]("chatty_logging:app", workers=2, env=ON) as other,
    ):
        for service in (one, other):
            service.ready()
        wait_for(
            lambda: all(len(of(each, "observability is on")) == 2 for each in (one, other)), 15, "two workers each"
        )
        httpx.put(f"{one.url}/loggers/talk?level=debug&seconds=600", headers=TOKEN).raise_for_status()
        wait_for(lambda: len(of(one, "log level was set at run time")) == 2, 10, "each worker says so itself")
        one.stop()
        with ALL["uvicorn"]("chatty_logging:app", workers=2, env=ON) as later:
            later.ready()
            for service in (other, later):
                for _ in range(5):
                    httpx.get(f"{service.url}/debug").raise_for_status()
                assert httpx.get(f"{service.url}/loggers", headers=TOKEN).json() == {
                    "loggers": {"root": {"level": "info"}}
                }
                service.stop()
    assert of(other, "native debug") == of(later, "native debug") == []
    assert of(other, "log level was set at run time") == of(later, "log level was set at run time") == []


def of(service: Service, message: str) -> list[dict[str, Any]]:
    return [line for line in service.lines if line["message"] == message]
