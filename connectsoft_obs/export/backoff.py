"""When to try an exporter again: a circuit breaker with growing, jittered pauses."""

from __future__ import annotations

import random

from connectsoft_obs.vocabulary import ExporterState

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


class Backoff:
    """State of one exporter; used by its thread alone.

    The first failure opens it. While it is open nothing is sent; after the pause one attempt is made, which closes it
    or doubles the pause. Pauses are drawn between half and the whole of their length, so that a fleet does not come
    back at once.
    """

    def __init__(self) -> None:
        self.state: ExporterState = ExporterState.CLOSED
        self._pause = FIRST_PAUSE
        self._random = random.Random()  # noqa: S311  jitter

    def failed(self, retry_after: float | None) -> float:
        """An attempt failed: how many seconds to wait before the next."""
        self.state = ExporterState.OPEN
        pause = self._pause * self._random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return pause if retry_after is None else min(max(retry_after, pause), LONGEST_PAUSE * 4)

    def succeeded(self) -> None:
        """An attempt was answered."""
        self.state = ExporterState.CLOSED
        self._pause = FIRST_PAUSE
