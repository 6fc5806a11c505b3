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
        reason: short reason for counters and log lines (`http_503`, `connection_refused`, `timeout`).
        retry_after: seconds to wait that the collector asked for.
        rejected: number of items that the collector rejected although it accepted the request (partial success).
        too_large: the request was too large; smaller requests may be accepted.
        refused: the failure is permanent until the configuration of the service or the collector is changed.
        detail: what the collector or the TLS library reports about the failure; not redacted.
    """

    accepted: bool
    retry: bool = False
    reason: str = ""
    retry_after: float | None = None
    rejected: int = 0
    too_large: bool = False
    refused: bool = False
    detail: str = ""


class Transport(Protocol):
    """Sends requests of one batch processor, from one thread; never raises."""

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Send one request within `timeout` seconds."""

    def close(self) -> None:
        """Close the connection; a later `send` opens a new one."""
