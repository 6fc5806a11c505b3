"""systemd and exec probes hear of start, stop and life, from the process that they watch."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.health.systemd import Systemd
from connectsoft_obs.testing import capture


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Everything so far, line by line."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    name = f"@connectsoft-obs-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    found = Manager(name.replace("@", "\0"))
    yield found, name
    found.socket.close()


def test_a_service_is_ready_after_its_tasks_and_stopping_before_its_stop(
    manager: tuple[Manager, str], tmp_path: Path
) -> None:
    systemd, address = manager
    env = {
        "NOTIFY_SOCKET": address,
        "CONNECTSOFT_OBS_DRAIN_DELAY": "1",
        "CHECKS": "task",
        "TASK_FILE": str(tmp_path / "done"),
    }
    with uvicorn("lifecycle:app", env=env) as service:
        service.ready("/hello")
        assert systemd.hear() == []
        (tmp_path / "done").touch()
        wait_for(lambda: "READY=1" in systemd.hear(), 5)
        assert "STOPPING=1" not in systemd.hear()
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "STOPPING=1" in systemd.hear(), 1)
        assert service.process.poll() is None
        service.process.wait(5)
    assert systemd.heard.count("READY=1") == 1
    assert systemd.heard.count("STOPPING=1") == 1
    assert "WATCHDOG=1" not in systemd.heard


def test_the_watchdog_is_fed_while_liveness_is_green(tmp_path: Path) -> None:
    systemd = Manager(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
    from connectsoft_obs.settings import load_settings

    telemetry = obs.Telemetry(load_settings({}, service="a", log_level="critical"), exports=False, environ=environ)
    telemetry.health.start()
    began = time.monotonic()
    wait_for(lambda: systemd.hear().count("WATCHDOG=1") >= 5, 5)
    assert 0.3 < time.monotonic() - began < 2  # every half of what is allowed
    telemetry.health.fail_liveness("by hand")
    time.sleep(0.15)
    number = systemd.hear().count("WATCHDOG=1")
    time.sleep(0.4)
    assert systemd.hear().count("WATCHDOG=1") <= number
    telemetry.health.stop()
    systemd.socket.close()


def test_a_watchdog_that_watches_another_process_is_not_fed() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
    assert Systemd(environ).watchdog is None
    assert Systemd({**environ, "WATCHDOG_PID": str(os.getpid())}).watchdog == 0.1
    assert Systemd({**environ, "WATCHDOG_PID": ""}).watchdog == 0.1
    for broken in ({"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        assert Systemd({**environ, "WATCHDOG_PID": "", **broken}).watchdog is None


def test_a_manager_that_is_not_there_disturbs_nobody(seen: Any) -> None:
    Systemd({"NOTIFY_SOCKET": "/nowhere/notify"}).ready("ready")
    Systemd({}).ready("ready")


def test_a_heartbeat_file_is_written_while_liveness_is_green_and_goes_with_the_service(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    with capture(service="a", heartbeat_file=str(path)) as seen:
        health = seen.telemetry.health  # type: ignore[union-attr]
        health.start()
        wait_for(path.exists, 5)
        assert path.read_text() == f"{os.getpid()}\n"
        health.stop()
        wait_for(lambda: not path.exists(), 5)
    with capture(service="a", heartbeat_file=str(path)) as seen:
        health = seen.telemetry.health  # type: ignore[union-attr]
        health.fail_liveness("x")
        health.start()
        time.sleep(0.3)
        assert not path.exists()


def test_a_heartbeat_file_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    with capture(service="a", heartbeat_file=str(tmp_path / "no" / "such")) as seen:
        seen.telemetry.health.start()  # type: ignore[union-attr]
        wait_for(lambda: seen.metric("connectsoft.obs.errors", connectsoft_obs_where="health.heartbeat").value == 1)
