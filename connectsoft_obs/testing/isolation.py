"""Isolation for tests: a fresh Telemetry that exports nowhere, and what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from connectsoft_obs.context import unbound
from connectsoft_obs.health import layer
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import Line, Output
from connectsoft_obs.telemetry import Slot, Telemetry, pop, push
from connectsoft_obs.testing.seen import Seen


class _Kept(Output):
    """Log lines, kept instead of written."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(Ledger())
        self._seen = seen

    @property
    def terminal(self) -> bool:
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
def capture(**arguments: Any) -> Iterator[Seen]:
    """See what is reported inside the block, which is isolated from the process and the network.

    Inside, everything that resolves the process's Telemetry (middlewares, decorators, checks, loggers, OpenTelemetry
    tracers) gets a fresh one that exports nowhere, and nothing is bound. Captures nest; the innermost is in force, in all threads. Health
    checks and start-up tasks that were declared before take part; those declared inside are forgotten at the end, and
    may take the name of one from outside to stand in for it.

    Args:
        arguments: fields of `Settings`, as `configure()` takes them.
    """
    seen = Seen()

    def make(settings: Settings) -> Telemetry:
        telemetry = Telemetry(settings, exports=False, output=_Kept(seen))
        telemetry.tracing.export_to(lambda span: seen.spans.append(span.readable()))
        seen.telemetry = telemetry
        return telemetry

    inner = Slot(make)
    with layer(), unbound():
        if arguments:
            inner.configure(**arguments)
        push(inner)
        try:
            yield seen
        finally:
            pop(inner)
            if inner.telemetry is not None:
                inner.telemetry.health.stop("the capture ends")
