"""What is declared wrongly is said at start-up; reloads replace; a test's own checks end with the test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.process import uvicorn, wait_for
from support.service_client import becomes

import connectsoft_obs as obs
from connectsoft_obs.health import CheckRegistry
from connectsoft_obs.testing import capture

MODULE = """
import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks
VERSION = {version}

@obs.readiness_check("db")
def db(): ...

obs.readiness_check("site")(dependency_checks.url("http://127.0.0.1:{version}/"))
{more}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes and imports a module that declares checks."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(version: int, more: str = "") -> ModuleType:
        (tmp_path / "declaring_module.py").write_text(MODULE.format(version=version, more=more))
        importlib.invalidate_caches()
        if "declaring_module" in sys.modules:
            return importlib.reload(sys.modules["declaring_module"])
        return importlib.import_module("declaring_module")

    yield write
    sys.modules.pop("declaring_module", None)


def test_the_same_function_declared_again_replaces_itself(seen: Any, module: Any) -> None:
    module(8001)
    first = {check.name: check.run for check in obs_declared()}
    second = module(8002)
    found = {check.name: check.run for check in obs_declared()}
    assert set(found) == {"db", "site"}
    assert found["db"] is second.db
    assert found["db"] is not first["db"]
    assert found["site"] is not first["site"]


def obs_declared() -> Any:
    from connectsoft_obs.health import declared

    return declared().checks()


def test_another_function_under_a_taken_name_is_refused(seen: Any, module: Any) -> None:
    module(8001)
    with pytest.raises(
        obs.ConfigurationError, match=r"readiness_check\('db'\): declaring_module.db already has that name"
    ):

        @obs.readiness_check("db")
        def other() -> None: ...


def test_two_checks_of_one_factory_under_one_name_are_refused(seen: Any, module: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="already has that name"):
        module(8001, more='obs.readiness_check("site")(dependency_checks.url("http://127.0.0.1:1/"))')


def test_the_name_of_a_readiness_check_is_free_for_liveness(seen: Any) -> None:
    @obs.readiness_check("db")
    def ready() -> None: ...

    @obs.liveness_check("db")
    def live() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": ""}, "printable name"),
        ({"name": "a\nb"}, "printable name"),
        ({"name": "a", "timeout": 0}, "timeout=0"),
        ({"name": "a", "interval": -1}, "interval=-1"),
        ({"name": "a", "failure_threshold": 0}, "failure_threshold=0"),
        ({"name": "a", "success_threshold": 1.5}, "success_threshold=1.5"),
        ({"name": "a", "scope": "galaxy"}, "neither instance nor shared"),
    ],
)
def test_a_value_that_cannot_work_is_refused(seen: Any, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=why):
        obs.readiness_check(**arguments)(lambda: None)


def test_what_cannot_be_called_is_refused(seen: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="cannot be called"):
        obs.readiness_check("a")(42)  # type: ignore[type-var]
    with pytest.raises(obs.ConfigurationError, match="timeout"):
        obs.startup_task("a", timeout=0)(lambda: None)


def test_an_unknown_name_in_the_settings_fails_the_start(tmp_path: Path) -> None:
    env = {"CHECKS": "file", "CHECKED_FILE": str(tmp_path), "CONNECTSOFT_OBS_DISABLED_CHECKS": "file,redsi"}
    with uvicorn("lifecycle:app", env=env) as service:
        assert service.process.wait(15) != 0
        wait_for(lambda: "redsi" in service.said)
    assert "there is no health check 'redsi'. The checks are: file." in service.said


def test_an_unknown_name_without_a_lifespan_is_one_critical_line(tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_DISABLED_CHECKS": "redsi"}
    with uvicorn("lifecycle:app", "--lifespan", "off", env=env) as service:
        service.ready("/hello").ready()
        service.stop()
    [line] = [line for line in service.lines if line["severity"] == "FATAL"]
    assert "there is no health check 'redsi'" in line["message"]


def test_a_disabled_check_is_neither_run_nor_reported(life: Any) -> None:
    runs = []

    @obs.readiness_check("broken-forever")
    def broken() -> None:
        runs.append(1)
        raise ValueError

    with life(disabled_checks="broken-forever") as (client, _):
        assert becomes(client, 200)["entries"] == {}
    assert runs == []


def test_a_check_declared_inside_a_capture_ends_with_it() -> None:
    before = [check.name for check in obs_declared()]
    with capture():

        @obs.readiness_check("mine")
        def mine() -> None: ...

        @obs.startup_task("mine")
        def task() -> None: ...

        assert [check.name for check in obs_declared()] == [*before, "mine"]
    assert [check.name for check in obs_declared()] == before
    with capture():

        @obs.readiness_check("mine")
        def another() -> None: ...


def test_a_capture_sees_the_checks_from_before_and_may_stand_in_for_them(life: Any) -> None:
    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError("the real one")

    @obs.readiness_check("cache")
    def cache() -> None: ...

    with capture():

        @obs.readiness_check("db")
        def stub() -> None: ...

        with life() as (client, _):
            assert set(becomes(client, 200)["entries"]) == {"db", "cache"}
    assert next(check for check in obs_declared() if check.name == "db").run is db


def test_checks_declared_after_the_start_take_part(life: Any) -> None:
    with life() as (client, _):
        assert client.get("/health/ready").json()["entries"] == {}

        @obs.readiness_check("late")
        def late() -> None: ...

        assert "late" in client.get("/health/ready").json()["entries"]
        becomes(client, 200)


def test_two_applications_can_have_checks_of_their_own(seen: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from connectsoft_obs.settings import load_settings

    clients = {}
    for name in ("orders", "billing"):
        own = CheckRegistry()
        obs.readiness_check(f"{name}-db", into=own)(lambda: None)
        app = Starlette()
        app.add_middleware(
            obs.ObservabilityMiddleware,
            telemetry=obs.Telemetry(load_settings({}, service=name), exports=False, declared=own),
        )
        clients[name] = TestClient(app)
    with clients["orders"] as orders, clients["billing"] as billing:
        assert set(becomes(orders, 200)["entries"]) == {"orders-db"}
        assert set(becomes(billing, 200)["entries"]) == {"billing-db"}


def test_declaring_leaves_the_function_as_it_is(seen: Any) -> None:
    def check() -> str:
        return "mine"

    assert obs.readiness_check("a")(check) is check
    assert obs.liveness_check("a")(check) is check
    assert obs.startup_task("a")(check) is check
    assert obs.on_health_change(check) is check  # type: ignore[type-var]
