"""Azure Application Insights as a destination: where its connection string leads, and how a batch travels there.

The official exporter knows what an envelope looks like. Here it is one more transport: queue, retries, breaker and the
account of losses are the pipeline's, so its own retries, files, rate limit and reports to its maker are off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.process.fork_safety import import_guard
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import Signal

if TYPE_CHECKING:
    from connectsoft_obs.export.azure_monitor.exporter import AzureExporter

EXPORTER = "azuremonitor"
"""What OTEL_<SIGNAL>_EXPORTER calls it, as the collector does."""

_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_PACKAGE = "azure.monitor.opentelemetry.exporter"
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EVERYWHERE = "https://dc.services.visualstudio.com"


@dataclass(frozen=True, slots=True)
class ApplicationInsightsDestination:
    """One Application Insights resource for one signal. `timeout` is seconds for one request."""

    signal: Signal
    endpoint: str
    timeout: float
    connection_string: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What its thread and its advice are called."""
        return f"{self.signal.value}-azure"

    @property
    def address(self) -> str:
        """How start-up lines and errors name it; never with the key."""
        return f"{self.endpoint.rstrip('/')}/v2.1/track"


def create_application_insights(
    settings: Settings, signal: Signal, **options: Any
) -> ApplicationInsightsDestination | None:
    """Where a signal goes, or None: no connection string, or an exporter list without `azuremonitor`.

    A connection string alone, which App Service sets by itself where monitoring was switched on in the portal, stops no
    service that lacks the extra; a list that names the exporter means it.

    Args:
        settings: what was set.
        signal: which signal.
        options: arguments of the official exporter of this signal.

    Raises:
        ConfigurationError: a connection string that cannot be one, or a list names the exporter and there is none, or
            the extra `azure` is not installed.
    """
    exporters = getattr(settings, f"{signal.value}_exporter")
    if settings.disabled or (exporters is not None and EXPORTER not in exporters):
        return None
    if not settings.azure_connection_string:
        if exporters is None:
            return None
        raise ConfigurationError(
            f"OTEL_{signal.value.upper()}_EXPORTER={','.join(exporters)!r}",
            f"{EXPORTER} is in the list and there is no connection string",
            f"Set {_VARIABLE} too, or take {EXPORTER} from the list.",
        )
    if not _installed():
        if exporters is None:
            return None
        raise ConfigurationError(
            f"OTEL_{signal.value.upper()}_EXPORTER={','.join(exporters)!r}",
            "the package azure-monitor-opentelemetry-exporter, which makes the envelopes, is not installed",
            f"Install connectsoft-obs[azure], or take {EXPORTER} from the list.",
        )
    endpoint = _endpoint(settings.azure_connection_string)
    return ApplicationInsightsDestination(
        signal, endpoint, settings.otlp_timeout, settings.azure_connection_string, options
    )


def missing_exporter_warning(settings: Settings) -> str:
    """Why nothing goes where the connection string leads, although there is one; "" where nothing is wrong."""
    if not settings.azure_connection_string or settings.disabled or _installed():
        return ""
    return f"{_VARIABLE} is set, and what sends there is not installed: connectsoft-obs[azure]"


def _installed() -> bool:
    with suppress(ModuleNotFoundError):  # of a parent package
        return find_spec(_PACKAGE) is not None
    return False


def _endpoint(text: str) -> str:
    """The ingestion endpoint; exactly as strict as the official exporter, which would fail later and elsewhere."""
    pairs = [pair.split("=") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise _impossible("it is not made of key=value pairs between semicolons")
    found = {key.lower(): value for key, value in pairs}
    if found.get("authorization", "ikey").lower() != "ikey":
        raise _impossible("its Authorization is not ikey")
    if not _KEY.fullmatch(found.get("instrumentationkey", "")):
        raise _impossible("its InstrumentationKey is missing or no UUID in lower case")
    endpoint = found.get("ingestionendpoint")
    if not endpoint and (suffix := found.get("endpointsuffix")):
        location = found.get("location")
        endpoint = f"https://{f'{location}.' if location else ''}dc.{suffix}"
    endpoint = endpoint or _EVERYWHERE
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _impossible(
            "its IngestionEndpoint is no address such as https://westeurope-1.in.applicationinsights.azure.com/"
        )
    return endpoint


def _impossible(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_VARIABLE}=...", why, "Copy the connection string from the overview of the Application Insights resource."
    )


class InsightsTransport:
    """Sends batches of what OpenTelemetry's SDK hands to exporters; used by one thread.

    The official exporter, which takes a third of a second to import, is imported at the first batch of a process, in
    the thread that sends it.
    """

    def __init__(self, destination: ApplicationInsightsDestination) -> None:
        self._to = destination
        self._envelopes: AzureExporter | None = None

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Send one batch."""
        try:
            envelopes = self._envelopes
            if envelopes is None:
                with import_guard():
                    from connectsoft_obs.export.azure_monitor.exporter import AzureExporter

                    envelopes = self._envelopes = AzureExporter(self._to)
        except Exception as error:  # noqa: BLE001  an installation that is broken; others keep what they have
            return ExportResult(False, retry=True, reason=type(error).__name__)
        try:
            return envelopes.send(payload, timeout)
        except Exception:  # noqa: BLE001  something in the batch cannot be an envelope; halves find out what
            return ExportResult(False, reason="internal_error", too_large=True)

    def close(self) -> None:
        """Close the connections; a later `send` opens new ones."""
        envelopes, self._envelopes = self._envelopes, None
        if envelopes is not None:
            with suppress(Exception):
                envelopes.close()
