"""Where a command's promises come from, and where tables go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.loader import resolve_source
from connectsoft_obs.slo.model import ServiceSLOs

F = TypeVar("F", bound=Callable[..., Any])


def sources(function: F) -> F:
    """The arguments of a command that takes promises."""
    service = click.option("--service", default="", help="Name of the service, for a list of objectives in Python.")
    return service(click.argument("source", nargs=-1)(function))


def load_declarations(source: Sequence[str], service: str = "") -> list[ServiceSLOs]:
    """The promises of each source, or of the file that is here.

    Raises:
        ConfigurationError: there is none, or two speak of the same service.
    """
    given = list(source) or [name for name in ("slo.toml", "pyproject.toml") if Path(name).exists()][:1]
    if not given:
        raise ConfigurationError(
            "no SOURCE", "there is neither slo.toml nor pyproject.toml here", "Name a file, or package.module:NAME."
        )
    made = [resolve_source(one, service) for one in given]
    names = [one.service for one in made]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"{name!r}", "two files promise something for it", "Put what one service promises into one file."
            )
    return made


def console() -> Console:
    """Where tables go: standard output, wide when nobody looks, so that nothing is cut off."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=200)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """A table."""
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for name in head:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
