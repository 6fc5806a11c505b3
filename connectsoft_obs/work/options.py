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

MAX_NAME_LENGTH = 200
"""Maximum length of a name in characters; Azure Monitor truncates longer property keys."""


def resolve_name(decorator: str, name: str | None, function: Any) -> str:
    """The name of a job or consumer: the given name, or that of the function.

    Raises:
        ConfigurationError: the name is invalid, or the object is not a function.
    """
    if inspect.isclass(function) or not callable(function):
        raise ConfigurationError(
            f"@{decorator} on {function!r}",
            "it is not a function",
            "Decorate a function or method.",
        )
    return validate_name(decorator, function_name(function) if name is None else name)


def validate_name(decorator: str, name: str) -> str:
    """Return the name if it is valid as a metric label.

    Raises:
        ConfigurationError: the name is empty, too long or not printable.
    """
    if not name or not name.isprintable() or len(name) > MAX_NAME_LENGTH:
        raise ConfigurationError(
            f"{decorator}({name[:MAX_NAME_LENGTH]!r})",
            f"the name must be printable and have at most {MAX_NAME_LENGTH} characters",
            "Use a static name without ids, dates or other data.",
        )
    return name


def function_name(function: Any) -> str:
    """Name of a callable: `report`, `Importer.run`; of a partial, its function; of an object, its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


_PLAIN_TYPES = (str, int, float, bool)


class Arguments:
    """Reads arguments of calls by name, positional or by keyword. Thread-safe.

    Args:
        decorator: name of the decorator for error texts.
        function: the function.
        names: names of the arguments to read.

    Raises:
        ConfigurationError: the function has no argument with one of the names.
    """

    def __init__(self, decorator: str, function: Callable[..., Any], names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        has_kwargs = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        if missing := sorted(self._names - parameters.keys()):
            if has_kwargs:
                return
            raise ConfigurationError(
                f"@{decorator} on {getattr(function, '__qualname__', function)!r}",
                f"it has no argument {missing[0]!r}",
                f"Its arguments are: {', '.join(parameters) or 'none'}.",
            )

    def collect(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Values by name, including defaults; values other than strings, numbers and bools are converted to text.

        Empty if the function does not accept the arguments.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return {}
        bound.apply_defaults()
        values = {**kwargs, **bound.arguments}
        return {name: _to_plain(values[name]) for name in self._names if name in values}


def _to_plain(value: Any) -> Any:
    return value if value is None or isinstance(value, _PLAIN_TYPES) else str(value)


DEADLINE_TOLERANCE_NS = 100_000_000
"""Nanoseconds by which a timeout that is enforced from outside can start before the run."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that apply to all runs of a job or consumer.

    Args:
        timeout: seconds after which a run counts as timed out; None for no limit.
        rejects: exceptions that mean that the input is invalid: the outcome is `rejected`.
    """

    timeout: float | None = None
    rejects: tuple[type[BaseException], ...] = ()

    @classmethod
    def create(cls, where: str, timeout: float | None, rejects: Any) -> RunOptions:
        """Validate and create the options of a decorator.

        Raises:
            ConfigurationError: the timeout is not positive, or `rejects` contains something else than exception classes.
        """
        kinds = rejects if isinstance(rejects, tuple) else (rejects,)
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"{where}(timeout={timeout!r})",
                "timeout must be greater than 0",
                "Set a timeout in seconds, or omit it.",
            )
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigurationError(
                f"{where}(rejects={rejects!r})",
                "it is not an exception class or a tuple of them",
                "Pass an exception class or a tuple of exception classes.",
            )
        return cls(timeout, kinds)

    def outcome(
        self, error: BaseException | None, elapsed_ns: int, skipped: bool, timed_out: bool, stopping: bool = False
    ) -> tuple[Outcome, str | None]:
        """Outcome and `error.type` of a run.

        Args:
            error: the exception that ended the run, or None.
            elapsed_ns: duration in nanoseconds.
            skipped: whether the run called `skip()`.
            timed_out: whether its timeout cancelled it.
            stopping: whether the process is stopping, so that `SystemExit` does not come from the run itself.
        """
        if type(error) is SystemExit and not stopping:  # frameworks stop workers with subclasses
            if error.code not in (None, 0):
                return Outcome.FAILURE, "SystemExit"
            error = None
        exceeded = self.timeout is not None and elapsed_ns >= self.timeout * 1e9
        if error is None:
            if exceeded:
                return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
            return (Outcome.REJECTED if skipped else Outcome.SUCCESS), None
        if timed_out:
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        if self.rejects and isinstance(error, self.rejects):
            return Outcome.REJECTED, None
        outcome, name = exception_outcome(error)
        if (
            outcome is Outcome.ABORTED
            and self.timeout is not None
            and elapsed_ns >= self.timeout * 1e9 - DEADLINE_TOLERANCE_NS
        ):
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        return outcome, name


DEFAULT_OPTIONS = RunOptions()
