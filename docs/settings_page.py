"""Generates the settings reference: settings by subject, with variable, type, accepted values, unit and default."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from connectsoft_obs.settings import FIELDS, Settings, variable
from connectsoft_obs.settings.parser_descriptions import unit, value_description

_INTRO = """# Settings

Each setting is an argument of `configure()`, `worker()` and the middleware, and an environment variable. A variable takes precedence over an argument.
A number of milliseconds in a variable is a number of seconds as an argument, as the tables show. Values separated by commas can be a list of strings as an argument. An empty variable counts as unset.
An invalid `OTEL_*` variable is ignored with a warning, see [Environment variables](../how-to/opentelemetry.md#environment-variables).
"""


def generate() -> str:
    """The page in Markdown."""
    parts = [_INTRO]
    for subject, names in subjects().items():
        parts.append(f"## {subject}\n\n| setting and variable | meaning, values, default |\n| --- | --- |\n")
        parts += [_row(name) for name in names]
        parts.append("\n")
    return "\n".join(parts[:1]) + "\n" + "".join(parts[1:]).rstrip() + "\n"


def subjects() -> dict[str, list[str]]:
    """Names of settings by the comment above them in the source of `Settings`."""
    result: dict[str, list[str]] = {}
    names: list[str] = []
    for comment, name in re.findall(r"^    (?:# (\w.*)|(\w+): )", inspect.getsource(Settings), re.MULTILINE):
        if comment:
            names = result.setdefault(comment, [])
        elif name in FIELDS:
            names.append(name)
    return result


def _row(name: str) -> str:
    field = FIELDS[name]
    env = variable(name, field.metadata["env"])
    kind = str(field.type).removesuffix(" | None")
    cells = (
        f"`{name}`<br>" + (f"`{env}`" if env else "argument only"),
        f"{field.metadata['help'].replace('<', '&lt;')}<br>`{kind}`: {_accepted(field)}<br>default: {_default(field)}",
    )
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _accepted(field: dataclasses.Field[Any]) -> str:
    reader = field.metadata["reader"]
    text = value_description(reader).replace("a string", "any text")
    return (
        f'{text}; as an argument also `""`, which disables the endpoint'
        if "disables" in value_description(reader, True)
        else text
    )


def _default(field: dataclasses.Field[Any]) -> str:
    default = field.default
    if default is None:
        return "unset"
    if default is dataclasses.MISSING or default in ((), ""):
        return "empty"
    of_variable = unit(field.metadata["reader"])
    if of_variable == "milliseconds":
        return f"`{default * 1000:g}` ms in the variable, `{default:g}` s as an argument"
    if of_variable == "seconds":
        return f"`{default:g}` s"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return ", ".join(f"`{item}`" for item in (default if isinstance(default, tuple) else (default,)))
