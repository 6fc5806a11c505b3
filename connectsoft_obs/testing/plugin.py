"""The pytest plugin: provides the fixture `obs_capture` and disables exports in test runs.

pytest loads it wherever the package is installed, so it imports no dependencies until the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from connectsoft_obs.process import export_switch

if TYPE_CHECKING:
    from connectsoft_obs.testing.captured_telemetry import Captured


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option `obs_exports`: `true` allows a test run to export telemetry."""
    parser.addini("obs_exports", "whether test runs may export telemetry", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Disable exports unless the configuration contains `obs_exports = true`."""
    export_switch.exports_allowed = bool(config.getini("obs_exports"))


@pytest.fixture
def obs_capture() -> Iterator[Captured]:
    """Capture the spans, log lines and metrics of a test, isolated from other tests and from the network."""
    from connectsoft_obs.testing.telemetry_capture import capture

    with capture() as captured:
        yield captured
