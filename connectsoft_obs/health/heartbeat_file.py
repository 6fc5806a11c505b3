"""Heartbeat file for exec probes of workers: `connectsoft-obs probe file:PATH`."""

from __future__ import annotations

import os
from contextlib import suppress

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two writes."""


class HeartbeatFile:
    """A file that the health thread writes periodically while liveness passes.

    Args:
        path: path of the file; its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self) -> None:
        """Write the pid of this process and update the modification time.

        Raises:
            OSError: the file cannot be written.
        """
        with open(self._path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")

    def remove(self) -> None:
        """Remove the file, if it exists."""
        with suppress(OSError):
            os.unlink(self._path)
