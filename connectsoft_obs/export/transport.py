"""How one export travels: a request over a kept connection, and what its answer means for the items in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What became of one export.

    Args:
        accepted: the collector has it.
        retry: it may accept the same bytes later.
        reason: a short word for counters and log lines (`http_503`, `refused`, `timeout`).
        retry_after: seconds the collector asked us to wait, if it did.
        rejected: items it took the request of but refused (partial success).
        too_large: smaller requests may be accepted.
    """

    accepted: bool
    retry: bool = False
    reason: str = ""
    retry_after: float | None = None
    rejected: int = 0
    too_large: bool = False


class Transport(Protocol):
    """Sends what its pipeline packs, from one thread; never raises."""

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Send one request, within `timeout` seconds."""

    def close(self) -> None:
        """Give the connection back; a later `send` opens a new one."""
