"""Application Insights destination: parses the connection string.

The official exporter is used as a transport only. The batch processor does queueing, retries, back-off and drop counts, so
the retries, offline storage, rate limit and usage statistics of the official exporter are disabled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import Signal

EXPORTER = "azuremonitor"
"""Name in OTEL_<SIGNAL>_EXPORTER, the same as in the OpenTelemetry Collector."""

_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_PACKAGE = "azure.monitor.opentelemetry.exporter"
_INSTRUMENTATION_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_QUOTA_REASONS = frozenset({"http_402", "http_439"})
_ACTION = (
    f"Check InstrumentationKey and IngestionEndpoint in {_VARIABLE}. If the resource allows only Entra ID, set "
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING=Authorization=AAD and give the identity the role Monitoring Metrics Publisher."
)
_GLOBAL_ENDPOINT = "https://dc.services.visualstudio.com"


@dataclass(frozen=True, slots=True)
class ApplicationInsightsDestination:
    """Application Insights resource for one signal. `timeout` is seconds per request."""

    signal: Signal
    endpoint: str
    timeout: float
    connection_string: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Name used for the exporter thread and in /health details."""
        return f"{self.signal.value}-azure"

    @property
    def address(self) -> str:
        """URL for log lines and errors, without the key."""
        return f"{self.endpoint.rstrip('/')}/v2.1/track"

    @property
    def credentials(self) -> list[str]:
        """The instrumentation key."""
        match = _INSTRUMENTATION_KEY.search(self.connection_string)
        return [] if match is None else [match[0]]

    def action(self, reason: str) -> str:
        """What to change if exports are refused for this reason."""
        if reason in _QUOTA_REASONS:
            return "The daily cap or quota of the Application Insights resource is reached: increase it, or reduce sampling."
        if reason == "http_413":
            return "A single item is too large: set OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT."
        if reason in ("certificate_file", "tls_certificate"):
            return "Set REQUESTS_CA_BUNDLE to a file with the CA certificate of the endpoint or of the proxy."
        return _ACTION


def create_application_insights(
    settings: Settings, signal: Signal, **options: Any
) -> ApplicationInsightsDestination | None:
    """Create the destination of a signal, or None if it is not sent to Application Insights.

    App Service sets the connection string by itself if monitoring is enabled in the portal. The variable alone therefore
    does not require the extra `azure`; naming the exporter in OTEL_<SIGNAL>_EXPORTER does.

    Args:
        settings: settings of the service.
        signal: the signal.
        options: arguments for the official exporter of this signal.

    Raises:
        ConfigurationError: the connection string is invalid; or OTEL_<SIGNAL>_EXPORTER names the exporter, and there is
            no connection string or the extra `azure` is not installed.
    """
    exporters = getattr(settings, f"{signal.value}_exporter")
    if settings.disabled or (exporters is not None and EXPORTER not in exporters):
        return None
    if not settings.azure_connection_string:
        if exporters is None:
            return None
        raise ConfigurationError(
            _quote_exporters(settings, signal),
            f"{EXPORTER} is in the list, but there is no connection string",
            f"Set {_VARIABLE}, or remove {EXPORTER} from the list.",
        )
    if not _is_installed():
        if exporters is None:
            return None
        raise ConfigurationError(
            _quote_exporters(settings, signal),
            "the package azure-monitor-opentelemetry-exporter is not installed",
            f"Install connectsoft-obs[azure], or remove {EXPORTER} from the list.",
        )
    source = settings.sources.get("azure_connection_string", "azure_connection_string")
    endpoint = _endpoint(settings.azure_connection_string, source)
    return ApplicationInsightsDestination(
        signal, endpoint, settings.otlp_timeout, settings.azure_connection_string, options
    )


def missing_exporter_warning(settings: Settings) -> str:
    """Warning if there is a connection string but the exporter is not installed; "" otherwise."""
    if not settings.azure_connection_string or settings.disabled or _is_installed():
        return ""
    return f"{_VARIABLE} is set, but nothing is sent: install connectsoft-obs[azure]"


def _is_installed() -> bool:
    with suppress(ModuleNotFoundError):  # raised for a missing parent package
        return find_spec(_PACKAGE) is not None
    return False


def _quote_exporters(settings: Settings, signal: Signal) -> str:
    name = f"{signal.value}_exporter"
    return f"{settings.sources.get(name, name)}={','.join(getattr(settings, name))!r}"


def _endpoint(text: str, source: str) -> str:
    """The ingestion endpoint. As strict as the official exporter, which would fail later, in the exporter thread."""
    pairs = [pair.split("=") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise _connection_string_error(source, "it is not a list of key=value pairs separated by semicolons")
    fields = {key.lower(): value for key, value in pairs}
    if fields.get("authorization", "ikey").lower() != "ikey":
        raise _connection_string_error(source, "its Authorization is not ikey")
    if not _INSTRUMENTATION_KEY.fullmatch(fields.get("instrumentationkey", "")):
        raise _connection_string_error(source, "its InstrumentationKey is missing or not a lower-case UUID")
    endpoint = fields.get("ingestionendpoint")
    if not endpoint and (suffix := fields.get("endpointsuffix")):
        location = fields.get("location")
        endpoint = f"https://{f'{location}.' if location else ''}dc.{suffix}"
    endpoint = endpoint or _GLOBAL_ENDPOINT
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise _connection_string_error(
            source,
            "its IngestionEndpoint is not a URL such as https://westeurope-1.in.applicationinsights.azure.com/",
        )
    return endpoint


def _connection_string_error(source: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{source}=...",
        why,
        "Copy the connection string from the overview page of the Application Insights resource.",
    )
