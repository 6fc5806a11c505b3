"""A file that is written while the process lives, for exec probes of workers: `connectsoft-obs probe file:PATH`."""

from __future__ import annotations

import os
from contextlib import suppress

INTERVAL = 5.0
"""Seconds between two writes."""


class HeartbeatFile:
    """One file. Written by the health thread while liveness is green.

    Args:
        path: where; its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def beat(self) -> None:
        """Write it; OSError where that cannot be done."""
        with open(self._path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")

    def end(self) -> None:
        """Take it away."""
        with suppress(OSError):
            os.unlink(self._path)
