"""Where one signal goes: address, transport, headers, TLS, time limit, as the OTLP exporter specification has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import Signal

_SERVICES = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """One collector for one signal. Durations in seconds; `secure` is TLS."""

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
        """What its thread and its advice are called."""
        return self.signal.value

    @property
    def address(self) -> str:
        """How start-up lines and errors name it; never with credentials."""
        scheme = "grpc" if self.grpc else "http"
        return f"{scheme}{'s' if self.secure else ''}://{self.host}:{self.port}{'' if self.grpc else self.path}"


def create_destination(settings: Settings, signal: Signal) -> Destination | None:
    """Where a signal goes, or None when nothing is sent: no endpoint, or an exporter list without `otlp`.

    Raises:
        ConfigurationError: for an address that cannot be one.
    """
    exporters = getattr(settings, f"{signal.value}_exporter")
    if settings.disabled or (exporters is not None and "otlp" not in exporters):
        return None
    if exporters is None and signal is Signal.LOGS:
        return None  # stdout is where log lines go; OTLP is on request
    override: Mapping[str, Any] = settings.otlp_overrides.get(signal.value, {})

    def setting(name: str) -> Any:
        return override.get(name, getattr(settings, name))

    own = override.get("otlp_endpoint")
    grpc = setting("otlp_protocol") == "grpc"
    address = own or settings.otlp_endpoint
    if not address:
        if exporters is None:
            return None
        address = "http://localhost:4317" if grpc else "http://localhost:4318"
    host, port, path, secure = _parts(address, grpc, setting("otlp_insecure"))
    if not grpc and own is None:
        path = f"{path.rstrip('/')}/v1/{signal.value}"
    return Destination(
        signal,
        grpc,
        host,
        port,
        _SERVICES[signal] if grpc else path or "/",
        secure,
        setting("otlp_headers"),
        setting("otlp_timeout"),
        setting("otlp_compression") == "gzip",
        setting("otlp_certificate"),
        setting("otlp_client_key"),
        setting("otlp_client_certificate"),
    )


def _parts(address: str, grpc: bool, insecure: bool) -> tuple[str, int, str, bool]:
    given = address if "://" in address else f"{'http' if insecure or not grpc else 'https'}://{address}"
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError as error:
        raise _impossible(address, str(error)) from None
    if not parts.hostname:
        raise _impossible(address, "it names no host")
    secure = parts.scheme in ("https", "grpcs")
    return parts.hostname, port or (4317 if grpc else 443 if secure else 80), parts.path, secure


def _impossible(address: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"OTEL_EXPORTER_OTLP_ENDPOINT={address!r}", why, "Use an address such as http://collector:4318."
    )
