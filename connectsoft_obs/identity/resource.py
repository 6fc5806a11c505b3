"""Who is reporting: the resource that traces, metrics, logs, /info and `target_info` all carry."""

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
    """One process of one service. Immutable; `for_this_process()` gives a forked child its own.

    Args:
        service: `service.name`.
        environment: `deployment.environment.name`, normalised; an unset environment is production.
        platform: the target that was detected.
        attributes: the whole OpenTelemetry resource.
    """

    service: str
    environment: str
    platform: Platform
    attributes: Mapping[str, str | int]

    @property
    def namespace(self) -> str | None:
        """`service.namespace`, if there is one."""
        return self._text(SERVICE_NAMESPACE)

    @property
    def version(self) -> str | None:
        """`service.version`, if it is known."""
        return self._text(SERVICE_VERSION)

    @property
    def revision(self) -> str | None:
        """`connectsoft.revision`: what the platform calls this deployment, if it says."""
        return self._text(REVISION)

    @property
    def instance(self) -> str:
        """`service.instance.id`: a random UUID of this process."""
        return str(self.attributes[SERVICE_INSTANCE_ID])

    def for_this_process(self) -> ResourceIdentity:
        """The same service with the instance id and pid of the calling process, for after a fork."""
        return replace(self, attributes={**self.attributes, **_process()})

    def _text(self, name: str) -> str | None:
        value = self.attributes.get(name)
        return None if value is None else str(value)


def identify(settings: Settings, environ: Mapping[str, str]) -> ResourceIdentity:
    """Settings over what the platform's variables give away over defaults. Calls no address and reads no secret."""
    place = detect(environ)
    service = settings.service or place.service or UNKNOWN_SERVICE
    given = settings.environment or environ.get("DOTNET_ENVIRONMENT") or environ.get("ASPNETCORE_ENVIRONMENT")
    environment = normalised(given)
    attributes: dict[str, str | int] = {
        **_machine(),
        **_process(),
        **place.attributes,
        **settings.resource_attributes,
        SERVICE_NAME: service,
        ENVIRONMENT: environment,
    }
    version = settings.version or _installed(service)
    optional = {SERVICE_NAMESPACE: settings.namespace, SERVICE_VERSION: version}
    attributes |= {name: value for name, value in optional.items() if value}
    return ResourceIdentity(service, environment, place.platform, attributes)


def normalised(environment: str | None) -> str:
    """The standard word of an environment (dev is development, prod is production); other words are kept."""
    word = (environment or "production").strip().lower()
    return _ENVIRONMENTS.get(word, word)


def _installed(service: str) -> str | None:
    """Version of the installed distribution that has the service's name, if there is one."""
    from importlib import metadata  # 10 ms that importing the package need not take

    try:
        return metadata.version(service)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _machine() -> dict[str, str | int]:
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


def _process() -> dict[str, str | int]:
    return {SERVICE_INSTANCE_ID: str(uuid.uuid4()), "process.pid": os.getpid()}
