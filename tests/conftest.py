"""What every test has: an environment without settings of ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from connectsoft_obs.context import isolated_bindings

hypothesis.settings.register_profile("shared", deadline=None)  # how long an example takes says who else runs
hypothesis.settings.load_profile("shared")

pytest_plugins = ["support.service_client"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background without Ctrl-C, and services of ours would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nothing_bound() -> Iterator[None]:
    """What one test binds outside of any operation is not on the lines of the next."""
    with isolated_bindings():
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(
            ("OTEL_", "CONNECTSOFT_", "APPLICATIONINSIGHTS_", "LOG_LEVEL", "WEBSITE_", "CONTAINER_APP", "KUBERNETES_")
        ):
            monkeypatch.delenv(name)
