"""Notifications to systemd, its watchdog, and the heartbeat file for exec probes."""

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
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture


class NotifySocket:
    """The receiving end of systemd's notification socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.messages: list[str] = []

    def receive(self) -> list[str]:
        """All lines received so far."""
        while True:
            try:
                self.messages += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.messages


@pytest.fixture(params=["path", "abstract"])
def notify_socket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[NotifySocket, str]]:
    name = f"@connectsoft-obs-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    notify_socket = NotifySocket(name.replace("@", "\0"))
    yield notify_socket, name
    notify_socket.socket.close()


def test_service_notifies_ready_after_tasks_and_stopping_during_drain(
    notify_socket: tuple[NotifySocket, str], tmp_path: Path
) -> None:
    systemd, address = notify_socket
    env = {
        "NOTIFY_SOCKET": address,
        "CONNECTSOFT_OBS_DRAIN_DELAY": "1",
        "CHECKS": "task",
        "TASK_FILE": str(tmp_path / "done"),
    }
    with uvicorn("lifecycle:app", env=env) as service:
        service.wait_until_ready("/hello")
        assert systemd.receive() == []
        (tmp_path / "done").touch()
        wait_for(lambda: "READY=1" in systemd.receive(), 5)
        assert "STOPPING=1" not in systemd.receive()
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "STOPPING=1" in systemd.receive(), 1)
        assert service.process.poll() is None
        service.process.wait(5)
    assert systemd.messages.count("READY=1") == 1
    assert systemd.messages.count("STOPPING=1") == 1
    assert "WATCHDOG=1" not in systemd.messages


def test_watchdog_is_notified_while_liveness_passes(tmp_path: Path) -> None:
    systemd = NotifySocket(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}

    telemetry = obs.Telemetry(load_settings({}, service="a", log_level="critical"), exports=False, environ=environ)
    telemetry.health.start()
    started = time.monotonic()
    wait_for(lambda: systemd.receive().count("WATCHDOG=1") >= 5, 5)
    assert 0.3 < time.monotonic() - started < 2  # at half of the watchdog timeout
    telemetry.health.fail_liveness("test")
    time.sleep(0.15)
    count = systemd.receive().count("WATCHDOG=1")
    time.sleep(0.4)
    assert systemd.receive().count("WATCHDOG=1") <= count
    telemetry.health.stop()
    systemd.socket.close()


def test_watchdog_of_another_process_is_not_notified() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
    assert Systemd(environ).watchdog_interval is None
    assert Systemd({**environ, "WATCHDOG_PID": str(os.getpid())}).watchdog_interval == 0.1
    assert Systemd({**environ, "WATCHDOG_PID": ""}).watchdog_interval == 0.1
    for invalid in ({"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        assert Systemd({**environ, "WATCHDOG_PID": "", **invalid}).watchdog_interval is None


def test_missing_service_manager_is_ignored(captured: Any) -> None:
    Systemd({"NOTIFY_SOCKET": "/missing/notify"}).notify_ready("ready")
    Systemd({}).notify_ready("ready")


def test_heartbeat_file_exists_while_liveness_passes(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    with capture(service="a", heartbeat_file=str(path)) as captured:
        health = captured.telemetry.health  # type: ignore[union-attr]
        health.start()
        wait_for(path.exists, 5)
        assert path.read_text() == f"{os.getpid()}\n"
        health.stop()
        wait_for(lambda: not path.exists(), 5)
    with capture(service="a", heartbeat_file=str(path)) as captured:
        health = captured.telemetry.health  # type: ignore[union-attr]
        health.fail_liveness("x")
        health.start()
        time.sleep(0.3)
        assert not path.exists()


@pytest.mark.parametrize(("path", "why"), [("missing/heartbeat", "does not exist"), ("", "is a directory")])
def test_heartbeat_file_that_cannot_be_written_is_rejected(tmp_path: Path, path: str, why: str) -> None:
    settings = load_settings({}, service="a", heartbeat_file=str(tmp_path / path))
    with pytest.raises(obs.ConfigurationError, match=why):
        obs.Telemetry(settings, exports=False)


def test_heartbeat_file_error_is_counted(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    with capture(service="a", heartbeat_file=str(directory / "heartbeat")) as captured:
        directory.rmdir()
        captured.telemetry.health.start()  # type: ignore[union-attr]
        wait_for(lambda: captured.metric("connectsoft.obs.errors", connectsoft_obs_where="health.heartbeat").value == 1)
