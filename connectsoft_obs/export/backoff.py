"""Exponential back-off with jitter between export attempts."""

from __future__ import annotations

import random

FIRST_PAUSE = 0.5
"""Seconds."""
MAX_PAUSE = 30.0
"""Seconds."""
MAX_RETRY_AFTER = 120.0
"""Maximum seconds of a pause that the collector asks for; a wrong value must not stop exports for hours."""


class Backoff:
    """Back-off of one exporter; used only by the thread of that exporter.

    Each failure doubles the pause, up to `MAX_PAUSE`. A pause is chosen at random between half and all of its length, so
    that many services do not retry at the same time.
    """

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._random = random.Random()  # noqa: S311  jitter

    def next_pause(self, retry_after: float | None) -> float:
        """Seconds to wait after a failed attempt. A Retry-After extends the pause, up to `MAX_RETRY_AFTER`."""
        pause = self._pause * self._random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, MAX_PAUSE)
        return pause if retry_after is None else max(min(retry_after, MAX_RETRY_AFTER), pause)

    def reset(self) -> None:
        """Reset after an attempt that the collector answered."""
        self._pause = FIRST_PAUSE
