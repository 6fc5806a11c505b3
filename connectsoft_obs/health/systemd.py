"""Notifications to systemd: READY=1, STOPPING=1, WATCHDOG=1. Follows sd_notify(3) and sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_MAX_STATUS = 200


class Systemd:
    """Notifies the service manager of this process; does nothing if there is none.

    Args:
        environ: environment with NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" denotes an abstract socket. vsock: addresses are for virtual machines and not for services.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._is_enabled = address.startswith(("/", "@")) and hasattr(socket, "AF_UNIX")
        self._watchdog_usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog_pid = environ.get("WATCHDOG_PID", "")

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two watchdog notifications, half of the timeout; None if the watchdog is not for this process."""
        usec = int(self._watchdog_usec) if self._watchdog_usec.isdigit() else 0
        if not self._is_enabled or not usec or self._watchdog_pid not in ("", str(os.getpid())):
            return None
        return usec / 2e6

    def notify_ready(self, status: str) -> None:
        """Report that startup has completed."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def notify_stopping(self, status: str) -> None:
        """Report that the service is stopping."""
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def notify_watchdog(self) -> None:
        """Report that the service is alive."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._is_enabled:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify_socket:
            notify_socket.setblocking(False)
            notify_socket.sendto(text.encode("utf-8", "replace"), self._address)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_STATUS]
