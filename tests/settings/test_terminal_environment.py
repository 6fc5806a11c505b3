"""The default environment: development in a terminal of the own machine, otherwise production."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from support.process import APPS, free_port, wait_for

SERVE = """
import sys
from connectsoft_obs.identity import local_terminal
local_terminal._CONTAINER_FILES = {files!r}
import uvicorn
uvicorn.run("titled:app", port={port})
"""
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


class Terminal:
    """titled:app under uvicorn. `streams` are the standard streams that are a pseudo terminal."""

    def __init__(self, env: Mapping[str, str], streams: tuple[str, ...], files: tuple[str, ...]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._fd, child_fd = os.openpty()
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(files=files, port=port)],
            env={**environment, "PYTHONPATH": os.pathsep.join([str(APPS), *sys.path]), **env},
            cwd=APPS,
            start_new_session=True,
            **(pipes | dict.fromkeys(streams, child_fd)),
        )
        os.close(child_fd)
        self._chunks: list[bytes] = []
        fd = self._fd if self.process.stdout is None else self.process.stdout.fileno()
        self._reader = threading.Thread(target=self._read, args=(fd,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(15)
        self._reader.join(15)
        os.close(self._fd)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def output(self) -> str:
        return b"".join(self._chunks).decode("utf-8", "replace")

    def wait_until_live(self) -> None:
        def is_live() -> bool:
            assert self.process.poll() is None, self.output
            return httpx.get(f"{self.url}/health/live", timeout=1).status_code == 200

        wait_for(is_live, 30, "liveness answers 200")

    def _read(self, fd: int) -> None:
        try:
            while chunk := os.read(fd, 65536):
                self._chunks.append(chunk)
        except OSError:  # Linux raises EIO when the last writer has closed the terminal
            pass


BOTH, DOCKER = ("stdout", "stderr"), ("/",)


@pytest.mark.parametrize(
    ("streams", "env", "files", "environment", "source"),
    [
        (BOTH, {}, (), "development", "terminal"),
        (("stdout",), {}, (), "development", "terminal"),
        ((), {}, (), "production", "default"),
        (BOTH, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), "production", "default"),
        (BOTH, {"CONTAINER_APP_NAME": "books"}, (), "production", "default"),
        (BOTH, {"WEBSITE_SITE_NAME": "books"}, (), "production", "default"),
        (BOTH, {"CI": "true"}, (), "production", "default"),
        (BOTH, {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}, (), "production", "default"),
        (BOTH, {"container": "podman"}, (), "production", "default"),
        (BOTH, {}, DOCKER, "production", "default"),
        (BOTH, {"CONNECTSOFT_OBS_ENVIRONMENT": "development"}, DOCKER, "development", "CONNECTSOFT_OBS_ENVIRONMENT"),
        (BOTH, {"CONNECTSOFT_OBS_ENVIRONMENT": "stage"}, (), "staging", "CONNECTSOFT_OBS_ENVIRONMENT"),
        (BOTH, {"DOTNET_ENVIRONMENT": "Production"}, (), "production", "DOTNET_ENVIRONMENT"),
    ],
)
def test_default_environment_is_development_only_in_a_local_terminal(
    streams: tuple[str, ...],
    env: dict[str, str],
    files: tuple[str, ...],
    environment: str,
    source: str,
) -> None:
    with Terminal({"CONNECTSOFT_OBS_LOG_PROFILE": "otel", **env}, streams, files) as service:
        service.wait_until_live()
        assert httpx.get(f"{service.url}/info").json()["environment"] == environment
        wait_for(lambda: "observability configured" in service.output, 10)
        output = service.output
    assert f'"connectsoft.obs.environment":"{environment} ({source})"' in output
