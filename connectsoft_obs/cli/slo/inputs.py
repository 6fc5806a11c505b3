"""Command-line arguments that name SLO declarations, and the loading of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.loader import resolve_source
from connectsoft_obs.slo.model import ServiceSLOs

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def source_arguments(command: CommandT) -> CommandT:
    """Decorate a command with the arguments that name SLO declarations."""
    service = click.option("--service", default="", help="Service name, for a list of SLOs in Python.")
    return service(click.argument("source", nargs=-1)(command))


def load_declarations(sources: Sequence[str], service: str = "") -> list[ServiceSLOs]:
    """Load the SLOs of each source, by default of the file in the current directory.

    Raises:
        ConfigurationError: there is no source, or two sources declare SLOs of the same service.
    """
    paths = list(sources) or [name for name in ("slo.toml", "pyproject.toml") if Path(name).exists()][:1]
    if not paths:
        raise ConfigurationError(
            "no SOURCE",
            "the current directory has neither slo.toml nor pyproject.toml",
            "Name a file, or package.module:NAME.",
        )
    services = [resolve_source(path, service) for path in paths]
    names = [service_slos.service for service_slos in services]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"{name!r}", "two sources declare SLOs of this service", "Declare all SLOs of a service in one file."
            )
    return services


def parse_timestamp(text: str) -> float:
    """Return the Unix time of a date or time, in UTC unless it has an offset.

    Raises:
        ConfigurationError: the text is neither.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r}", "it is not a date", "Write 2026-10-31 or 2026-10-31T12:00.") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
