"""Descriptions of the values that a setting parser accepts, for error texts and the settings reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

Reader: TypeAlias = Callable[[Any], Any]
"""Converts the text of an environment variable, or an argument, to the value of a setting. Raises ValueError."""

F = TypeVar("F", bound=Callable[..., Any])


def describe_values(description: str, *, argument: str = "", is_list: bool = False, unit: str = "") -> Callable[[F], F]:
    """Decorator that describes which values a parser accepts, for "Set NAME to ..." in error texts.

    Args:
        description: a noun phrase.
        argument: a noun phrase for arguments, if it differs from that for variables.
        is_list: whether the parser accepts entries separated by commas, each of which it also accepts alone.
        unit: unit of the value in a variable; an argument is in seconds.
    """

    def describe(parser: F) -> F:
        vars(parser).update(
            variable_description=description, argument_description=argument or description, is_list=is_list, unit=unit
        )
        return parser

    return describe


def value_description(parser: Reader, is_argument: bool = False) -> str:
    """Return a noun phrase for the values that a parser accepts in a variable, or as an argument."""
    return str(getattr(parser, "argument_description" if is_argument else "variable_description", "a valid value"))


def is_list(parser: Reader) -> bool:
    """Whether a parser accepts a list, whose entries it also accepts one by one."""
    return bool(getattr(parser, "is_list", False))


def unit(parser: Reader) -> str:
    """The unit of the value in a variable: `seconds`, `milliseconds` or nothing."""
    return str(getattr(parser, "unit", ""))


def shorten(text: str, max_length: int = 60) -> str:
    """Cut a text that is quoted in an error."""
    return text if len(text) <= max_length else f"{text[:max_length]}..."
