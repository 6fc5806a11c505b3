"""Fixtures for every test: an environment without settings, and no bound attributes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.metadata import entry_points

import hypothesis
import pytest

from connectsoft_obs.context import isolated_bindings
from connectsoft_obs.telemetry import auto_instrumentation

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
def _uninstrumented_clients() -> Iterator[None]:
    """Client libraries that a test instruments do not add headers to the requests of the next test."""
    before = set(auto_instrumentation._instrumented)
    yield
    if auto_instrumentation._instrumented == before:
        return
    for point in entry_points(group=auto_instrumentation.ENTRY_POINT_GROUP):
        if point.name in auto_instrumentation._instrumented - before:
            point.load()().uninstrument()
            auto_instrumentation._instrumented.discard(point.name)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(
            ("OTEL_", "CONNECTSOFT_", "APPLICATIONINSIGHTS_", "LOG_LEVEL", "WEBSITE_", "CONTAINER_APP", "KUBERNETES_")
        ):
            monkeypatch.delenv(name)
