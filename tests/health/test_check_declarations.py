"""Declaration of checks: validation, replacement after a reload, isolation by captures and registries."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from support.process import Service, free_port, uvicorn, wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.health import Check, CheckRegistry, current_registry
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
    """A function that writes and imports a module that declares checks."""
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


def test_redeclared_function_replaces_its_declaration(captured: Any, module: Any) -> None:
    module(8001)
    before_reload = {check.name: check.run for check in declared_checks()}
    reloaded_module = module(8002)
    checks = {check.name: check.run for check in declared_checks()}
    assert set(checks) == {"db", "site"}
    assert checks["db"] is reloaded_module.db
    assert checks["db"] is not before_reload["db"]
    assert checks["site"] is not before_reload["site"]


def declared_checks() -> list[Check]:
    return current_registry().checks()


def test_duplicate_name_is_rejected(captured: Any, module: Any) -> None:
    module(8001)
    with pytest.raises(
        obs.ConfigurationError, match=r"readiness_check\('db'\): declaring_module.db already has that name"
    ):

        @obs.readiness_check("db")
        def other() -> None: ...


def test_duplicate_name_of_factory_checks_is_rejected(captured: Any, module: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="already has that name"):
        module(8001, more='obs.readiness_check("site")(dependency_checks.url("http://127.0.0.1:1/"))')


def test_readiness_and_liveness_checks_may_share_a_name(captured: Any) -> None:
    @obs.readiness_check("db")
    def ready() -> None: ...

    @obs.liveness_check("db")
    def live() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "printable string"),
        ({"name": "a\nb"}, "printable string"),
        ({"name": "a", "timeout": 0}, "timeout=0"),
        ({"name": "a", "interval": -1}, "interval=-1"),
        ({"name": "a", "failure_threshold": 0}, "failure_threshold=0"),
        ({"name": "a", "success_threshold": 1.5}, "success_threshold=1.5"),
        ({"name": "a", "scope": "galaxy"}, "it is not a scope"),
    ],
)
def test_invalid_value_is_rejected(captured: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=message):
        obs.readiness_check(**arguments)(lambda: None)


def test_object_that_is_not_callable_is_rejected(captured: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="is not callable"):
        obs.readiness_check("a")(42)  # type: ignore[type-var]
    with pytest.raises(obs.ConfigurationError, match="timeout"):
        obs.startup_task("a", timeout=0)(lambda: None)


def test_unknown_disabled_check_fails_the_lifespan_startup(tmp_path: Path) -> None:
    env = {"CHECKS": "file", "CHECKED_FILE": str(tmp_path), "CONNECTSOFT_OBS_DISABLED_CHECKS": "file,redsi"}
    with uvicorn("lifecycle:app", env=env) as service:
        assert service.process.wait(15) != 0
        wait_for(lambda: "redsi" in service.output)
    assert "there is no health check 'redsi'. The checks are: file." in service.output
    assert "Traceback" not in service.output
    assert "CancelledError" not in service.output


def test_application_is_shut_down_after_a_failed_startup() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        events.append("opened")
        yield
        events.append("closed")

    app = Starlette(lifespan=lifespan)
    app.add_middleware(obs.ObservabilityMiddleware, service="failed")
    sent: list[str] = []

    async def receive() -> Any:
        if sent:
            await asyncio.Event().wait()  # the server has nothing more to send
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with capture(disabled_checks="redsi"):
        asyncio.run(asyncio.wait_for(app({"type": "lifespan", "app": app}, receive, send), 10))
    assert sent == ["lifespan.startup.failed"]
    assert events == ["opened", "closed"]


def test_unknown_disabled_check_without_lifespan_is_logged_once(tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_DISABLED_CHECKS": "redsi"}
    with uvicorn("lifecycle:app", "--lifespan", "off", env=env) as service:
        service.wait_until_ready("/hello").wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if line["severity"] == "FATAL"]
    assert "there is no health check 'redsi'" in line["message"]


def test_disabled_check_is_neither_run_nor_reported(run_service: Any) -> None:
    runs = []

    @obs.readiness_check("broken")
    def broken() -> None:
        runs.append(1)
        raise ValueError

    with run_service(disabled_checks="broken") as (client, _):
        assert wait_for_status(client, 200)["entries"] == {}
    assert runs == []


def test_check_declared_inside_a_capture_is_removed_with_it() -> None:
    before = [check.name for check in declared_checks()]
    with capture():

        @obs.readiness_check("own")
        def own() -> None: ...

        @obs.startup_task("own")
        def task() -> None: ...

        assert [check.name for check in declared_checks()] == [*before, "own"]
    assert [check.name for check in declared_checks()] == before
    with capture():

        @obs.readiness_check("own")
        def another() -> None: ...


def test_capture_inherits_checks_and_can_replace_them(run_service: Any) -> None:
    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError("real dependency")

    @obs.readiness_check("cache")
    def cache() -> None: ...

    with capture():

        @obs.readiness_check("db")
        def stub() -> None: ...

        with run_service() as (client, _):
            assert set(wait_for_status(client, 200)["entries"]) == {"db", "cache"}
    assert next(check for check in declared_checks() if check.name == "db").run is db


def test_check_declared_after_startup_is_run(run_service: Any) -> None:
    with run_service() as (client, _):
        assert client.get("/health/ready").json()["entries"] == {}

        @obs.readiness_check("late")
        def late() -> None: ...

        assert "late" in client.get("/health/ready").json()["entries"]
        wait_for_status(client, 200)


def test_two_applications_can_use_separate_registries(captured: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from connectsoft_obs.settings import load_settings

    clients = {}
    for name in ("orders", "billing"):
        registry = CheckRegistry()
        obs.readiness_check(f"{name}-db", into=registry)(lambda: None)
        app = Starlette()
        app.add_middleware(
            obs.ObservabilityMiddleware,
            telemetry=obs.Telemetry(load_settings({}, service=name), exports=False, declared=registry),
        )
        clients[name] = TestClient(app)
    with clients["orders"] as orders, clients["billing"] as billing:
        assert set(wait_for_status(orders, 200)["entries"]) == {"orders-db"}
        assert set(wait_for_status(billing, 200)["entries"]) == {"billing-db"}


def test_decorators_return_the_function_unchanged(captured: Any) -> None:
    def check() -> str:
        return "result"

    assert obs.readiness_check("a")(check) is check
    assert obs.liveness_check("a")(check) is check
    assert obs.startup_task("a")(check) is check
    assert obs.on_health_change(check) is check  # type: ignore[type-var]


SCRIPT = """
import sys
import connectsoft_obs as obs
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

placed = obs.counter("orders.placed", unit="{order}", labels=("tier",))
depth = obs.gauge("mail.queue.depth", unit="{message}")
size = obs.histogram("file.size", unit="By")

@obs.readiness_check("db")
async def db(): ...

obs.readiness_check("cache")(lambda: None)

@obs.liveness_check("threads")
def threads(): ...

@obs.startup_task("warm")
async def warm(): print("RAN warm", flush=True)

@obs.on_health_change
def report(change): print("CHANGED", change.probe, flush=True)

@obs.job("nightly", schedule="0 2 * * *")
def nightly(): ...

@obs.consumer("orders", system="redis", headers=lambda message: {})
def consume(message): ...

app = Starlette(routes=[Route("/hello", lambda request: PlainTextResponse("hello"))])
app.add_middleware(
    obs.ObservabilityMiddleware, service="script", objectives=[obs.slo.availability("orders-available", 99.9)]
)

if __name__ == "__main__":
    import uvicorn
    uvicorn.run("script_app:app", host="127.0.0.1", port=int(sys.argv[1]), **{options})
"""


@pytest.mark.parametrize("options", ["{}", "{'reload': True}", "{'workers': 2}"])
def test_script_that_starts_a_server_with_its_own_name_starts(tmp_path: Path, options: str) -> None:
    script = tmp_path / "script_app.py"
    script.write_text(SCRIPT.replace("{options}", options))
    port = free_port()
    path = str(Path(obs.__file__).parents[1])
    with Service([sys.executable, str(script), str(port)], port, {"PYTHONPATH": path}) as service:
        service.wait_until_ready()
        assert b"hello" in httpx.get(f"http://127.0.0.1:{port}/hello").content
        wait_for(lambda: "CHANGED readiness" in service.output)
        assert set(httpx.get(f"http://127.0.0.1:{port}/health").json()["entries"]) == {"cache", "db", "threads", "warm"}
        service.stop()
    processes = 2 if "workers" in options else 1
    assert service.output.count("RAN warm") == processes
    assert service.output.count("CHANGED startup") == processes


def test_same_function_in_another_file_is_rejected(captured: Any, tmp_path: Path, module: Any) -> None:
    module(8001)
    (tmp_path / "copied_module.py").write_text(MODULE.format(version=8001, more=""))
    with pytest.raises(obs.ConfigurationError, match=r"declaring_module\.db already has that name"):
        importlib.import_module("copied_module")
