"""The pytest plugin: the fixture `obs_capture`, and no exports from a test run.

Loaded by pytest wherever the package is installed, so it imports nothing until the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from connectsoft_obs.process import export_switch

if TYPE_CHECKING:
    from connectsoft_obs.testing.captured_telemetry import Captured


def pytest_addoption(parser: pytest.Parser) -> None:
    """`obs_exports = true` in the ini file lets a test run send telemetry."""
    parser.addini("obs_exports", "whether this test run may send telemetry", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """No telemetry leaves a test run unless it says so."""
    export_switch.exports_allowed = bool(config.getini("obs_exports"))


@pytest.fixture
def obs_capture() -> Iterator[Captured]:
    """What the test reports: spans, lines, metrics; isolated from other tests and from the network."""
    from connectsoft_obs.testing.telemetry_capture import capture

    with capture() as seen:
        yield seen
