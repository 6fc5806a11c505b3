"""systemd's notifications: READY=1, STOPPING=1, WATCHDOG=1. Follows sd_notify(3) and sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Systemd:
    """Tells the service manager of this process; does nothing where there is none.

    Args:
        environ: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" names an abstract socket; vsock: addresses of virtual machines' hosts are not for services.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.listens: bool = address.startswith(("/", "@")) and hasattr(socket, "AF_UNIX")
        self._watchdog = environ.get("WATCHDOG_USEC", "")
        self._watched = environ.get("WATCHDOG_PID", "")

    @property
    def watchdog(self) -> float | None:
        """Seconds between two signs of life, half of what is allowed; None when this process is not watched."""
        usec = int(self._watchdog) if self._watchdog.isdigit() else 0
        if not self.listens or not usec or self._watched not in ("", str(os.getpid())):
            return None
        return usec / 2e6

    def ready(self, status: str) -> None:
        """The service has started."""
        self._tell(f"READY=1\nSTATUS={_line(status)}")

    def stopping(self, status: str) -> None:
        """The service stops."""
        self._tell(f"STOPPING=1\nSTATUS={_line(status)}")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self.listens:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto(text.encode("utf-8", "replace"), self._address)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
