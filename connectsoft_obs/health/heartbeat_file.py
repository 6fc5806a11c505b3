"""Heartbeat file for exec probes of workers: `connectsoft-obs probe file:PATH`."""

from __future__ import annotations

import os
from contextlib import suppress

from connectsoft_obs.errors import ConfigurationError

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two writes."""


class HeartbeatFile:
    """A file that the health thread writes periodically while liveness passes.

    Args:
        path: path of the file; its directory must exist.

    Raises:
        ConfigurationError: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        directory = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.access(path if os.path.exists(path) else directory, os.W_OK):
            raise ConfigurationError(
                f"CONNECTSOFT_OBS_HEARTBEAT_FILE={path!r}",
                f"the process cannot write it: {_write_problem(path, directory)}",
                "Use a path in an existing directory that the user of the process can write, such as /tmp/heartbeat.",
            )
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


def _write_problem(path: str, directory: str) -> str:
    if os.path.isdir(path):
        return "it is a directory"
    if not os.path.isdir(directory):
        return f"the directory {directory} does not exist"
    return "permission denied"
