"""Diagnosis of a service: effective settings and their sources, collectors, routes, health checks and SLOs."""

from __future__ import annotations

import dataclasses
import http.client
import importlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.asgi import ObservabilityMiddleware
from connectsoft_obs.asgi.route_template import list_route_paths
from connectsoft_obs.asgi.slo_routes import unknown_slo_routes
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.export import create_destination, create_transport
from connectsoft_obs.health import current_registry
from connectsoft_obs.identity import UNKNOWN_SERVICE, ResourceIdentity, identify, is_local_terminal
from connectsoft_obs.ops.findings import Finding, Level
from connectsoft_obs.redaction import DEFAULT_POLICY, safe_str
from connectsoft_obs.settings import (
    FIELDS,
    Settings,
    implausible_variables,
    invalid_variables,
    load_settings,
    unknown_variables,
)
from connectsoft_obs.slo.declared_slos import DeclaredSLOs, load_declared_slos, misspelled_jobs
from connectsoft_obs.telemetry import current
from connectsoft_obs.vocabulary import Signal
from connectsoft_obs.work.job_recorder import declared_jobs

_MAX_DEPTH = 20
"""Layers of middleware that are searched for `ObservabilityMiddleware`."""

_MAX_RESPONSE_BYTES = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting, its redacted value, and where the value comes from: a variable, `argument` or `default`."""

    name: str
    value: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result of `diagnose`: effective settings, collectors, routes, checks and findings."""

    settings: list[EffectiveSetting] = dataclasses.field(default_factory=list)
    collectors: dict[str, str] = dataclasses.field(default_factory=dict)
    """Signal -> address and whether it accepts exports."""
    routes: list[str] = dataclasses.field(default_factory=list)
    checks: list[str] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, level: Level, code: str, subject: str, message: str, advice: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, code, subject, message, advice))


def diagnose(
    target: str, environ: Mapping[str, str] | None = None, timeout: float = 5.0, public_url: str = ""
) -> Diagnosis:
    """Diagnose an application, or only the environment if `target` is "".

    The application is imported; its startup does not run. Each OTLP destination receives one request without content.

    Args:
        target: `module:attribute` of an ASGI application, or `module` of a worker that calls `obs.configure()`.
        environ: the environment variables; those of the process by default.
        timeout: seconds to wait for each collector and for `public_url`.
        public_url: address at which clients outside the network reach the running service; "" checks none.

    Raises:
        ConfigurationError: the target cannot be imported.
    """
    environ = os.environ if environ is None else environ
    diagnosis = Diagnosis()
    application = _import_target(target) if target else None
    try:
        settings = _load(application, environ, diagnosis)
        _report_settings(settings, environ, diagnosis)
        _report_collectors(settings, timeout, diagnosis)
        if public_url:
            _report_public_endpoints(settings, public_url, timeout, diagnosis)
        if application is not None:
            _report_application(application, settings, environ, diagnosis)
    except ConfigurationError as error:
        diagnosis.add(Level.ERROR, "invalid-setting", error.given, error.why, error.instead)
    return diagnosis


def _import_target(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute) if attribute else module
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            target,
            f"it cannot be imported: {type(error).__name__}: {error}",
            "Pass module:attribute, such as main:app.",
        ) from error


def _load(application: Any, environ: Mapping[str, str], diagnosis: Diagnosis) -> Settings:
    """Load the settings as the service does."""
    if (middleware := _find_middleware(application)) is not None:
        return middleware.load_settings(environ)
    if (telemetry := current()) is not None:
        return telemetry.settings
    if application is not None:
        diagnosis.add(
            Level.ERROR,
            "no-middleware",
            type(application).__name__,
            "the application has no ObservabilityMiddleware and does not call obs.configure() at import",
            "Add app.add_middleware(obs.ObservabilityMiddleware, service=...).",
        )
    return load_settings(environ)


def _find_middleware(application: Any) -> ObservabilityMiddleware | None:
    """Find the middleware around an application, or in the middleware list of a Starlette or FastAPI application."""
    for layer in _layers(application):
        if isinstance(layer, ObservabilityMiddleware):
            return layer
        for entry in getattr(layer, "user_middleware", ()):
            if entry.cls is ObservabilityMiddleware:
                return ObservabilityMiddleware(layer, *entry.args, **entry.kwargs)
    return None


def _layers(application: Any) -> Iterator[Any]:
    for _ in range(_MAX_DEPTH):
        if application is None:
            return
        yield application
        application = getattr(application, "app", None)


def _report_settings(settings: Settings, environ: Mapping[str, str], diagnosis: Diagnosis) -> None:
    defaults, identity = Settings(), _identify(settings, environ)
    detected = {
        "service": (identity.service, identity.service_source),
        "environment": (identity.environment, identity.environment_source),
    }
    for field in FIELDS.values():
        value, default = getattr(settings, field.name), getattr(defaults, field.name)
        source = settings.sources.get(field.name) or ("argument" if value != default else "default")
        value, source = detected.get(field.name, (value, source))
        is_hidden = field.metadata["secret"] and value != default
        shown = "..." if is_hidden else DEFAULT_POLICY.redact_text(_format(value))
        diagnosis.settings.append(EffectiveSetting(field.name, shown, source))
    for warning in invalid_variables(environ, settings):
        diagnosis.add(Level.WARNING, "variable-ignored", "environment", warning, "Correct or remove the variable.")
    for warning in implausible_variables(environ, settings):
        diagnosis.add(Level.WARNING, "variable-implausible", "environment", warning, "Check the unit of the value.")
    for warning in unknown_variables(environ):
        diagnosis.add(Level.WARNING, "variable-unknown", "environment", warning, "Correct or remove the variable.")
    if identity.service == UNKNOWN_SERVICE:
        diagnosis.add(
            Level.WARNING, "no-service-name", "service", "the service has no name", "Set OTEL_SERVICE_NAME or service=."
        )


def _identify(settings: Settings, environ: Mapping[str, str]) -> ResourceIdentity:
    return identify(settings, environ, at_local_terminal=is_local_terminal(environ))


def _format(value: Any) -> str:
    """Format a value as text; an SLO is shown by its name."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple | list):
        return ", ".join(getattr(item, "name", None) or safe_str(item) for item in value)
    return "" if value is None else safe_str(value)


def _report_collectors(settings: Settings, timeout: float, diagnosis: Diagnosis) -> None:
    for signal in Signal:
        try:
            destination = create_destination(settings, signal)
        except ConfigurationError as error:
            diagnosis.collectors[signal.value] = f"off: {error.given}: {error.why}"
            diagnosis.add(Level.ERROR, "collector", signal.value, f"{error.given}: {error.why}", error.instead)
            continue
        if destination is None:
            diagnosis.collectors[signal.value] = "not exported by OTLP"
            continue
        transport = create_transport(destination)
        try:
            result = transport.send(b"", min(timeout, destination.timeout))
        finally:
            transport.close()
        if result.accepted:
            diagnosis.collectors[signal.value] = f"{destination.address} accepts exports"
            continue
        diagnosis.collectors[signal.value] = f"{destination.address} fails: {result.reason}"
        advice = destination.action(result.reason) if result.refused else "Check the address and that it is reachable."
        diagnosis.add(
            Level.ERROR,
            "collector",
            signal.value,
            f"{destination.address} does not accept exports: {result.reason}",
            advice,
        )


def _report_public_endpoints(settings: Settings, public_url: str, timeout: float, diagnosis: Diagnosis) -> None:
    """Report `/metrics` and `/info` that a client without a token can read at the public address."""
    if not public_url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"public_url={public_url!r}", "it is not a URL", "Pass a URL such as https://api.example.com."
        )
    for path, content in ((settings.metrics_path, b"\n# TYPE "), (settings.info_path, b'"service"')):
        if not path:
            continue
        url = public_url.rstrip("/") + path
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:  # noqa: S310
                is_public = content in response.read(_MAX_RESPONSE_BYTES)
        except urllib.error.HTTPError as error:
            error.close()
            continue
        except (OSError, ValueError, http.client.HTTPException) as error:
            diagnosis.add(
                Level.ERROR, "public-url", url, f"it does not answer: {safe_str(error)}", "Check the address."
            )
            continue
        if is_public:
            diagnosis.add(
                Level.ERROR,
                "public-endpoint",
                url,
                "a client without a token can read it",
                "Let the proxy set X-Forwarded-For, or set CONNECTSOFT_OBS_TRUSTED_PROXIES to its address.",
            )


def _report_application(application: Any, settings: Settings, environ: Mapping[str, str], diagnosis: Diagnosis) -> None:
    for layer in _layers(application):
        diagnosis.routes.extend(list_route_paths(getattr(layer, "routes", ())))
    registry = current_registry()
    diagnosis.checks.extend(f"{check.probe.value} {check.name}" for check in registry.checks())
    diagnosis.checks.extend(f"startup {task.name}" for task in registry.tasks())
    source = settings.slo_file or settings.objectives
    if source:
        service = _identify(settings, environ).service
        _report_slos(application, service, load_declared_slos(source), diagnosis)


def _report_slos(application: Any, service: str, declared: DeclaredSLOs, diagnosis: Diagnosis) -> None:
    if declared.service not in (None, service) and service != UNKNOWN_SERVICE:
        diagnosis.add(
            Level.WARNING,
            "slo-service",
            service,
            f"the SLOs are declared for {declared.service}, so rules that are generated from them do not include this service",
            f"Set name = {service!r} in [service], or OTEL_SERVICE_NAME={declared.service}.",
        )
    for route in unknown_slo_routes(declared.slos, application, ""):
        diagnosis.add(
            Level.ERROR,
            "slo-route",
            route.slo,
            f"the application has no route {route.name}, so the SLO counts nothing",
            _capitalize(route.advice) or "Use a route template of the application.",
        )
    for job in misspelled_jobs(declared.slos, declared_jobs()):
        diagnosis.add(
            Level.WARNING,
            "slo-job",
            job.slo,
            f"the process declares no job {job.name}, so the SLO counts nothing here",
            _capitalize(job.advice),
        )


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
