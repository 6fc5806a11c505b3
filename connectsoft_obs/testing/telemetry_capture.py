"""Capture of telemetry in tests: a separate Telemetry that exports nothing and stores what it records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from connectsoft_obs.context import isolated_bindings
from connectsoft_obs.health import nested_registry
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import Line, StdoutWriter
from connectsoft_obs.telemetry import Telemetry, TelemetryHolder, pop_capture, push_capture
from connectsoft_obs.testing.captured_telemetry import Captured


class CapturingLogWriter(StdoutWriter):
    """Stores log lines instead of writing them."""

    def __init__(self, captured: Captured) -> None:
        super().__init__(InternalTelemetry())
        self._captured = captured

    @property
    def is_terminal(self) -> bool:
        """Always false."""
        return False

    def start(self) -> None:
        """Do nothing."""

    def write(self, line: Line, urgent: bool) -> None:
        """Store a line as a dictionary."""
        self._captured.logs.append(orjson.loads(line if isinstance(line, bytes) else line()))

    def flush(self, timeout: float) -> bool:
        """Return True; no lines are buffered."""
        return True

    def stop(self, timeout: float) -> bool:
        """Return True at once; there is no thread to stop."""
        return True


@contextmanager
def capture(**arguments: Any) -> Iterator[Captured]:
    """Capture the telemetry of a block, isolated from the rest of the process and from the network.

    In the block, middlewares, decorators, checks, loggers and OpenTelemetry tracers use a new Telemetry that exports
    nothing, and no attributes are bound. Captures can be nested; the innermost one applies, in all threads. Health checks
    and startup tasks that were declared before the block are active; those declared in the block are removed at its end,
    and replace existing ones of the same name until then.

    Args:
        arguments: fields of `Settings`, as for `configure()`.
    """
    captured = Captured()

    def create_telemetry(settings: Settings) -> Telemetry:
        telemetry = Telemetry(settings, exports=False, output=CapturingLogWriter(captured))
        telemetry.tracing.export_to(lambda span: captured.spans.append(span.to_readable()))
        captured.telemetry = telemetry
        return telemetry

    holder = TelemetryHolder(create_telemetry)
    with nested_registry(), isolated_bindings():
        if arguments:
            holder.configure(**arguments)
        push_capture(holder)
        try:
            yield captured
        finally:
            pop_capture(holder)
            if holder.telemetry is not None:
                holder.telemetry.health.stop("the capture has ended")
