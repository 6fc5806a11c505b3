"""The arguments of a call that telemetry was asked to look at; no other is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from connectsoft_obs.errors import ConfigurationError

_PLAIN = (str, int, float, bool)


class Arguments:
    """Finds arguments by name, however they were passed. Thread-safe.

    Args:
        decorator: for messages.
        function: whose arguments.
        names: which ones.

    Raises:
        ConfigurationError: the function has no argument of such a name.
    """

    def __init__(self, decorator: str, function: Callable[..., Any], names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        rest = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        if missing := sorted(self._names - parameters.keys()):
            if rest:
                return
            raise ConfigurationError(
                f"@{decorator} on {getattr(function, '__qualname__', function)!r}",
                f"it has no argument {missing[0]!r}",
                f"Its arguments are: {', '.join(parameters) or 'none'}.",
            )

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Name to value, defaults included; values that are not text, numbers or truth values as text.

        Nothing for arguments that the function itself is going to refuse.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return {}
        bound.apply_defaults()
        given = {**kwargs, **bound.arguments}
        return {name: _plain(given[name]) for name in self._names if name in given}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, _PLAIN) else str(value)
