"""Transport interface: sends one request and returns its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Result of one export request.

    Args:
        accepted: the collector accepted the request.
        retry: the same request can be sent again later.
        reason: short reason for counters and log lines (`http_503`, `refused`, `timeout`).
        retry_after: seconds to wait that the collector asked for.
        rejected: number of items that the collector rejected although it accepted the request (partial success).
        too_large: the request was too large; smaller requests may be accepted.
    """

    accepted: bool
    retry: bool = False
    reason: str = ""
    retry_after: float | None = None
    rejected: int = 0
    too_large: bool = False


class Transport(Protocol):
    """Sends requests of one batch processor, from one thread; never raises."""

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Send one request within `timeout` seconds."""

    def close(self) -> None:
        """Close the connection; a later `send` opens a new one."""
