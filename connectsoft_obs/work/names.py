"""Static names of work: given, or the function's own; a name is a metric label, so it is checked when it is declared."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from connectsoft_obs.errors import ConfigurationError

LONGEST = 200
"""Characters of a name; Azure Monitor cuts longer property keys and Prometheus users stop reading."""


def named(decorator: str, given: str | None, function: Any) -> str:
    """The name of the work that a function is.

    Raises:
        ConfigurationError: the name cannot be one, or the thing is not a function.
    """
    if inspect.isclass(function) or not callable(function):
        raise ConfigurationError(
            f"@{decorator} on {function!r}",
            "it is not a function",
            "Decorate the function or method that does the work.",
        )
    return checked(decorator, own_name(function) if given is None else given)


def checked(decorator: str, name: str) -> str:
    """A name that can be a metric label.

    Raises:
        ConfigurationError: it cannot.
    """
    if not name or not name.isprintable() or len(name) > LONGEST:
        raise ConfigurationError(
            f"{decorator}({name[:LONGEST]!r})",
            f"it needs a printable name of at most {LONGEST} characters",
            "Name what it does, without ids, dates or other data.",
        )
    return name


def own_name(function: Any) -> str:
    """What a function is called: `report`, `Importer.run`; of a partial, the function in it; of an object, its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]
