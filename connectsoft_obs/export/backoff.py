"""Exponential back-off with jitter between export attempts."""

from __future__ import annotations

import random

from connectsoft_obs.vocabulary import ExporterState

FIRST_PAUSE = 0.5
"""Seconds."""
MAX_PAUSE = 30.0
"""Seconds."""


class Backoff:
    """Back-off of one exporter; used only by the thread of that exporter.

    The first failure sets the state to OPEN: nothing is sent until the pause is over. Then one attempt is made, which
    sets the state to CLOSED or doubles the pause. Each pause is chosen at random between half and all of its length, so
    that many services do not retry at the same time.
    """

    def __init__(self) -> None:
        self.state: ExporterState = ExporterState.CLOSED
        self._pause = FIRST_PAUSE
        self._random = random.Random()  # noqa: S311  jitter

    def next_pause(self, retry_after: float | None) -> float:
        """Seconds to wait after a failed attempt. A Retry-After of the collector extends the pause, up to a limit."""
        self.state = ExporterState.OPEN
        pause = self._pause * self._random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, MAX_PAUSE)
        return pause if retry_after is None else min(max(retry_after, pause), MAX_PAUSE * 4)

    def reset(self) -> None:
        """Reset after an attempt that the collector answered."""
        self.state = ExporterState.CLOSED
        self._pause = FIRST_PAUSE
