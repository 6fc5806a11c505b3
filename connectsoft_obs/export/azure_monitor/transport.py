"""Sends batches to Application Insights through the official exporter, which is imported with the first batch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from connectsoft_obs.export.azure_monitor.destination import ApplicationInsightsDestination
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.process.fork_safety import import_guard

if TYPE_CHECKING:
    from connectsoft_obs.export.azure_monitor.exporter import AzureExporter


class AzureMonitorTransport:
    """Sends batches of SDK objects through the official exporter; used by one thread.

    Importing the official exporter takes a third of a second, so it is imported with the first batch, in the thread that
    sends it.
    """

    def __init__(self, destination: ApplicationInsightsDestination) -> None:
        self._destination = destination
        self._exporter: AzureExporter | None = None

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Send one batch."""
        try:
            exporter = self._exporter
            if exporter is None:
                with import_guard():
                    from connectsoft_obs.export.azure_monitor.exporter import AzureExporter

                    exporter = self._exporter = AzureExporter(self._destination)
        except Exception as error:  # noqa: BLE001  a broken installation; retried, other destinations are not affected
            return ExportResult(False, retry=True, reason=type(error).__name__)
        try:
            return exporter.send(payload, timeout)
        except Exception:  # noqa: BLE001  an item cannot be converted; splitting the batch isolates it
            return ExportResult(False, reason="internal_error", too_large=True)

    def close(self) -> None:
        """Close the connections; a later `send` opens new ones."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            with suppress(Exception):
                exporter.close()
