"""The Telemetry for work that is about to run; where settings cannot work, none, and the work goes on without us."""

from __future__ import annotations

import sys

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.telemetry import Telemetry, current, resolve

_said: set[str] = set()


def found() -> Telemetry | None:
    """The Telemetry in force, made from the environment if there is none yet; None where that fails, or is disabled."""
    telemetry = current()
    if telemetry is None:
        try:
            telemetry = resolve()
        except ConfigurationError as error:
            if str(error) not in _said:
                _said.add(str(error))
                # Whoever calls `configure()` or `worker()` is told by an exception; here is nobody to raise it to.
                print(f"CRITICAL connectsoft_obs: {error}", file=sys.stderr)  # noqa: T201
            return None
    return None if telemetry.settings.disabled else telemetry
