"""Isolation for tests: a fresh Telemetry that exports nowhere, and what it was told."""

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


class _Kept(StdoutWriter):
    """Log lines, kept instead of written."""

    def __init__(self, seen: Captured) -> None:
        super().__init__(InternalTelemetry())
        self._seen = seen

    @property
    def is_terminal(self) -> bool:
        """Nobody looks."""
        return False

    def start(self) -> None:
        """Nothing to start."""

    def write(self, line: Line, urgent: bool) -> None:
        """Keep a line as a dictionary."""
        self._seen.logs.append(orjson.loads(line if isinstance(line, bytes) else line()))

    def flush(self, timeout: float) -> bool:
        """Nothing waits."""
        return True

    def stop(self, timeout: float) -> bool:
        """Nothing to stop."""
        return True


@contextmanager
def capture(**arguments: Any) -> Iterator[Captured]:
    """See what is reported inside the block, which is isolated from the process and the network.

    Inside, everything that resolves the process's Telemetry (middlewares, decorators, checks, loggers, OpenTelemetry
    tracers) gets a fresh one that exports nowhere, and nothing is bound. Captures nest; the innermost is in force, in all threads. Health
    checks and start-up tasks that were declared before take part; those declared inside are forgotten at the end, and
    may take the name of one from outside to stand in for it.

    Args:
        arguments: fields of `Settings`, as `configure()` takes them.
    """
    seen = Captured()

    def make(settings: Settings) -> Telemetry:
        telemetry = Telemetry(settings, exports=False, output=_Kept(seen))
        telemetry.tracing.export_to(lambda span: seen.spans.append(span.to_readable()))
        seen.telemetry = telemetry
        return telemetry

    inner = TelemetryHolder(make)
    with nested_registry(), isolated_bindings():
        if arguments:
            inner.configure(**arguments)
        push_capture(inner)
        try:
            yield seen
        finally:
            pop_capture(inner)
            if inner.telemetry is not None:
                inner.telemetry.health.stop("the capture ends")
