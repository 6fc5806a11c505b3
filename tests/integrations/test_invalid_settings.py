"""Invalid settings of workers are reported where the integration is installed, at the import of the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from dramatiq.brokers.stub import StubBroker
from faststream import FastStream
from faststream.redis import RedisBroker
from taskiq import InMemoryBroker

import connectsoft_obs as obs
from connectsoft_obs.integrations import arq, celery, dramatiq, faststream, taskiq
from connectsoft_obs.testing import capture


class WorkerSettings:
    functions = ()


@pytest.mark.parametrize(
    ("install", "target"),
    [
        (arq.install, lambda: type("Settings", (WorkerSettings,), {})),
        (celery.install, lambda: Celery("invalid", set_as_current=False)),
        (dramatiq.install, StubBroker),
        (faststream.install, lambda: FastStream(RedisBroker())),
        (taskiq.install, InMemoryBroker),
    ],
    ids=lambda value: value.__module__.rpartition(".")[2] if value.__name__ == "install" else "",
)
def test_install_rejects_invalid_settings(
    install: Callable[..., None], target: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture():
        with pytest.raises(obs.ConfigurationError, match="no such setting"):
            install(target(), servise="reports")
        monkeypatch.setenv("CONNECTSOFT_OBS_ACCESS_LOG", "maybe")
        with pytest.raises(obs.ConfigurationError, match="CONNECTSOFT_OBS_ACCESS_LOG"):
            install(target())
