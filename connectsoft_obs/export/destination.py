"""OTLP destination of one signal: endpoint, transport, headers, TLS, timeout. Follows the OTLP exporter specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.export.refusal_advice import advice_for_refusal
from connectsoft_obs.settings import Settings, parsers, quote_setting
from connectsoft_obs.vocabulary import Signal

_GRPC_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}

_MIN_CREDENTIAL_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Destination:
    """Endpoint of a collector for one signal. Durations in seconds; `secure` means TLS."""

    signal: Signal
    grpc: bool
    host: str
    port: int
    path: str
    secure: bool
    headers: Mapping[str, str]
    timeout: float
    gzip: bool
    certificate: str | None
    client_key: str | None
    client_certificate: str | None

    @property
    def name(self) -> str:
        """Name used for the exporter thread and in /health details."""
        return self.signal.value

    @property
    def address(self) -> str:
        """URL for log lines and errors, without credentials."""
        scheme = "grpc" if self.grpc else "http"
        return f"{scheme}{'s' if self.secure else ''}://{self.host}:{self.port}{'' if self.grpc else self.path}"

    @property
    def credentials(self) -> list[str]:
        """Values of the headers, and tokens without their scheme; short ones, such as ids of tenants, are left out."""
        values = [part for value in self.headers.values() for part in (value, value.rpartition(" ")[2])]
        return [value for value in values if len(value) >= _MIN_CREDENTIAL_LENGTH]

    def action(self, reason: str) -> str:
        """What to change if exports are refused for this reason."""
        return advice_for_refusal(reason, self.signal.value)


def create_destination(settings: Settings, signal: Signal) -> Destination | None:
    """Create the destination of a signal, or None if it is not exported by OTLP.

    Raises:
        ConfigurationError: the endpoint is not a valid URL, or the protocol is gRPC and grpcio is not installed.
    """
    exporters = getattr(settings, f"{signal.value}_exporter")
    if settings.disabled or (exporters is not None and "otlp" not in exporters):
        return None
    if exporters is None and signal is Signal.LOGS:
        return None  # log lines go to stdout; OTLP only on request
    override: Mapping[str, Any] = settings.otlp_overrides.get(signal.value, {})

    def setting(name: str) -> Any:
        return override.get(name, getattr(settings, name))

    signal_endpoint = override.get("otlp_endpoint")
    grpc = setting("otlp_protocol") == "grpc"
    endpoint = signal_endpoint or settings.otlp_endpoint
    if not endpoint:
        if exporters is None:
            return None
        endpoint = "http://localhost:4317" if grpc else "http://localhost:4318"
    if grpc and find_spec("grpc") is None:  # left out of an image, or not available for the platform
        source = settings.sources.get("otlp_protocol", "otlp_protocol")
        source = settings.sources.get(f"otlp_protocol.{signal.value}", source)
        raise ConfigurationError(
            quote_setting("otlp_protocol", "grpc", source),
            "the package grpcio is not installed",
            f"Install grpcio, or set {source} to http/protobuf and use the port 4318 of the collector.",
        )
    source = settings.sources.get("otlp_endpoint", "otlp_endpoint")
    if signal_endpoint:
        source = settings.sources.get(f"otlp_endpoint.{signal.value}", "otlp_overrides")
    host, port, path, secure = _split_endpoint(endpoint, grpc, setting("otlp_insecure"), source)
    if not grpc and signal_endpoint is None:
        path = f"{path.rstrip('/')}/v1/{signal.value}"
    return Destination(
        signal,
        grpc,
        host,
        port,
        _GRPC_METHODS[signal] if grpc else path or "/",
        secure,
        setting("otlp_headers"),
        setting("otlp_timeout"),
        setting("otlp_compression") == "gzip",
        setting("otlp_certificate"),
        setting("otlp_client_key"),
        setting("otlp_client_certificate"),
    )


def _split_endpoint(endpoint: str, grpc: bool, insecure: bool, source: str) -> tuple[str, int, str, bool]:
    """Host, port, path and whether TLS is used. `source` is the variable or argument with the endpoint."""
    try:
        parsers.url(endpoint)
    except ValueError as error:
        raise ConfigurationError(
            quote_setting("otlp_endpoint", endpoint, source),
            str(error),
            f"Set {source} to a URL such as http://collector:4318.",
        ) from None
    parts = urlsplit(endpoint if "://" in endpoint else f"{'http' if insecure or not grpc else 'https'}://{endpoint}")
    secure = parts.scheme in ("https", "grpcs")
    return parts.hostname or "", parts.port or (4317 if grpc else 443 if secure else 80), parts.path, secure
