"""Fixtures for every test: an environment without settings, and no bound attributes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from connectsoft_obs.context import isolated_bindings

hypothesis.settings.register_profile("shared", deadline=None)  # durations depend on the load of the machine
hypothesis.settings.load_profile("shared")

pytest_plugins = ["support.service_client"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Background jobs of a shell ignore SIGINT, and the services that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _isolated_bindings() -> Iterator[None]:
    """Attributes that a test binds outside an operation do not appear in the next test."""
    with isolated_bindings():
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(
            ("OTEL_", "CONNECTSOFT_", "APPLICATIONINSIGHTS_", "LOG_LEVEL", "WEBSITE_", "CONTAINER_APP", "KUBERNETES_")
        ):
            monkeypatch.delenv(name)
