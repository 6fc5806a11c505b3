"""The OpenTelemetry resource of the process, shared by traces, metrics, logs, `/info` and `target_info`."""

from __future__ import annotations

import os
import platform as python_platform
import socket
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from connectsoft_obs._version import __version__
from connectsoft_obs.identity.platforms import Platform, detect
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import (
    ENVIRONMENT,
    REVISION,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_NAMESPACE,
    SERVICE_VERSION,
)

UNKNOWN_SERVICE = "unknown_service:python"
ARGUMENT, TITLE, DEFAULT = "argument", "title", "default"
_DOTNET_VARIABLES = ("DOTNET_ENVIRONMENT", "ASPNETCORE_ENVIRONMENT")

_ENVIRONMENTS = {
    "dev": "development",
    "develop": "development",
    "local": "development",
    "tst": "test",
    "testing": "test",
    "qa": "test",
    "stage": "staging",
    "stg": "staging",
    "prod": "production",
    "prd": "production",
    "live": "production",
}
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "i686": "x86"}


@dataclass(frozen=True, slots=True)
class ResourceIdentity:
    """Identity of one process of a service. Immutable; `for_this_process()` returns that of a forked child.

    Args:
        service: `service.name`.
        environment: `deployment.environment.name`, normalised; `production` if unset, `development` at a local terminal.
        platform: the detected platform.
        attributes: all attributes of the OpenTelemetry resource.
        service_source: where the name of the service comes from: a variable, `argument`, `platform`, `title` or `default`.
        environment_source: where the environment comes from: a variable, `argument`, `terminal` or `default`.
    """

    service: str
    environment: str
    platform: Platform
    attributes: Mapping[str, str | int]
    service_source: str
    environment_source: str

    @property
    def namespace(self) -> str | None:
        """`service.namespace`, or None."""
        return self._text(SERVICE_NAMESPACE)

    @property
    def version(self) -> str | None:
        """`service.version`, or None."""
        return self._text(SERVICE_VERSION)

    @property
    def revision(self) -> str | None:
        """`connectsoft.revision`: the name of this deployment on the platform, or None."""
        return self._text(REVISION)

    @property
    def instance(self) -> str:
        """`service.instance.id`: a random UUID of this process."""
        return str(self.attributes[SERVICE_INSTANCE_ID])

    def for_this_process(self) -> ResourceIdentity:
        """The same identity with the instance id and pid of the calling process; used after a fork."""
        return replace(self, attributes={**self.attributes, **_process_attributes()})

    def _text(self, name: str) -> str | None:
        value = self.attributes.get(name)
        return None if value is None else str(value)


def identify(settings: Settings, environ: Mapping[str, str], *, at_local_terminal: bool = False) -> ResourceIdentity:
    """Build the identity: settings override platform variables, which override defaults. Makes no network calls.

    Args:
        settings: the settings.
        environ: the environment variables.
        at_local_terminal: whether the default environment is development; see `is_local_terminal`.
    """
    detected = detect(environ)
    attribute = settings.resource_attributes.get
    service, service_source = _first(
        (settings.service, settings.sources.get("service", ARGUMENT)),
        (attribute(SERVICE_NAME), ARGUMENT),
        (detected.service, "platform"),
        (settings.application_title, TITLE),
        (UNKNOWN_SERVICE, DEFAULT),
    )
    configured, environment_source = _first(
        (settings.environment, settings.sources.get("environment", ARGUMENT)),
        (attribute(ENVIRONMENT), ARGUMENT),
        *((environ.get(name), name) for name in _DOTNET_VARIABLES),
        ("development" if at_local_terminal else None, "terminal"),
        ("production", DEFAULT),
    )
    environment = normalize_environment(configured)
    attributes: dict[str, str | int] = {
        **_host_attributes(),
        **_process_attributes(),
        **detected.attributes,
        **settings.resource_attributes,
        SERVICE_NAME: service,
        ENVIRONMENT: environment,
    }
    version = settings.version or _installed_version(service)
    optional = {SERVICE_NAMESPACE: settings.namespace, SERVICE_VERSION: version}
    attributes |= {name: value for name, value in optional.items() if value}
    return ResourceIdentity(service, environment, detected.platform, attributes, service_source, environment_source)


def _first(*values_and_sources: tuple[str | None, str]) -> tuple[str, str]:
    """The first value that is set, and its source."""
    return next((value, source) for value, source in values_and_sources if value)


def normalize_environment(environment: str | None) -> str:
    """Map aliases to standard names (dev to development, prod to production); other names are kept in lower case."""
    name = (environment or "production").strip().lower()
    return _ENVIRONMENTS.get(name, name)


def _installed_version(service: str) -> str | None:
    """Version of the installed distribution with the name of the service, or None."""
    from importlib import metadata  # imported here: it would add 10 ms to importing the package

    try:
        return metadata.version(service)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _host_attributes() -> dict[str, str | int]:
    from importlib import metadata

    machine = python_platform.machine()
    return {
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": metadata.version("opentelemetry-sdk"),
        "telemetry.distro.name": "connectsoft_obs",
        "telemetry.distro.version": __version__,
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": python_platform.python_version(),
        "host.name": socket.gethostname(),
        "host.arch": _ARCHITECTURES.get(machine, machine.lower()),
        "os.type": {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux"),
    }


def _process_attributes() -> dict[str, str | int]:
    return {SERVICE_INSTANCE_ID: str(uuid.uuid4()), "process.pid": os.getpid()}
