"""Options of jobs and consumers: names, recorded arguments, timeout, rejected exceptions, and the outcome that follows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.operations import exception_outcome
from connectsoft_obs.vocabulary import ErrorType, Outcome

LONGEST = 200
"""Characters of a name; Azure Monitor cuts longer property keys and Prometheus users stop reading."""


def resolve_name(decorator: str, given: str | None, function: Any) -> str:
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
    return validate_name(decorator, own_name(function) if given is None else given)


def validate_name(decorator: str, name: str) -> str:
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

    def collect(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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


EARLY_NS = 100_000_000
"""Nanoseconds that whoever enforces a time limit from outside, by cancelling, may have begun to count before the run did."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is agreed for all runs of a piece of work.

    Args:
        timeout: seconds after which a run counts as timed out; None for no limit.
        rejects: exceptions that mean the input is at fault, not the work.
    """

    timeout: float | None = None
    rejects: tuple[type[BaseException], ...] = ()

    @classmethod
    def checked(cls, where: str, timeout: float | None, rejects: Any) -> RunOptions:
        """Terms as a decorator was given them.

        Raises:
            ConfigurationError: a limit that is none, or something to reject that is no class of exceptions.
        """
        kinds = rejects if isinstance(rejects, tuple) else (rejects,)
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"{where}(timeout={timeout!r})", "a run cannot take no time", "Give a limit in seconds, or none."
            )
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigurationError(
                f"{where}(rejects={rejects!r})",
                "it names no exceptions",
                "Give an exception class, or a tuple of them.",
            )
        return cls(timeout, kinds)

    def outcome(
        self, error: BaseException | None, elapsed_ns: int, skipped: bool, struck: bool
    ) -> tuple[Outcome, str | None]:
        """Outcome and kind of error of a run, which said itself that it skips its work, or was struck by its time limit."""
        late = self.timeout is not None and elapsed_ns >= self.timeout * 1e9
        if error is None:
            if late:
                return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
            return (Outcome.REJECTED if skipped else Outcome.SUCCESS), None
        if struck:
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        if self.rejects and isinstance(error, self.rejects):
            return Outcome.REJECTED, None
        outcome, name = exception_outcome(error)
        if outcome is Outcome.ABORTED and self.timeout is not None and elapsed_ns >= self.timeout * 1e9 - EARLY_NS:
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        return outcome, name


NO_TERMS = RunOptions()
