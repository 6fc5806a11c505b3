"""Validation of `slo.toml` against its schema, before anything else reads the file."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.schema import INDICATORS, SLO_FILE, Schema

_FILE = "the file"
_TYPES: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "string": ("text in quotes", (str,)),
    "number": ("a number", (int, float)),
    "integer": ("a whole number", (int,)),
    "boolean": ("true or false", (bool,)),
    "array": ("a list", (list, tuple)),
    "object": ("a table", (Mapping,)),
}


def validate(content: Any) -> dict[str, Any]:
    """Validate the content of a file and return it; a single value of a key that takes several becomes a list.

    Raises:
        ConfigurationError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    validated: dict[str, Any] = _validate(content, SLO_FILE, _FILE, "")
    return validated


def _validate(value: Any, schema: Schema, location: str, key: str) -> Any:
    """Validate one value. `location` is the table that holds it, and `key` its key there."""
    if "oneOf" in schema and isinstance(value, Mapping):
        return _validate_indicator(value, location)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_has_type(value, name) for name in types):
        raise _error(value, location, key, schema, types)
    if "array" in types:
        items = value if isinstance(value, list | tuple) else [value]
        if len(items) < schema.get("minItems", 0):
            raise ConfigurationError(f"{key} = [] in {location}", "the list is empty", f"Add a value, or remove {key}.")
        return [_validate(item, schema["items"], location, key) for item in items]
    if isinstance(value, Mapping):
        return _validate_table(value, schema, _table_name(location, key))
    if not _is_in_range(value, schema):
        raise _error(value, location, key, schema, types)
    return value


def _table_name(location: str, key: str) -> str:
    """Name of a table as in TOML, for error messages."""
    if location != _FILE:
        return f"{key} of {location}"
    if not key:
        return _FILE
    return f"[[{key}]]" if SLO_FILE["properties"][key]["type"] == "array" else f"[{key}]"


def _validate_table(table: Mapping[str, Any], schema: Schema, location: str) -> dict[str, Any]:
    if "properties" not in schema:
        return _validate_map(table, schema, location)
    properties = schema["properties"]
    for key in table:
        if key not in properties:
            near = difflib.get_close_matches(key, properties, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(properties)}."
            raise ConfigurationError(f"{key} in {location}", "there is no such key", hint)
    for key in schema["required"]:
        if key not in table:
            raise ConfigurationError(location, f"it has no {key}", f"Add {key}.")
    location = f"{location} {table['name']!r}" if isinstance(table.get("name"), str) else location
    return {key: _validate(value, properties[key], location, key) for key, value in table.items()}


def _validate_map(table: Mapping[str, Any], schema: Schema, location: str) -> dict[str, Any]:
    """Validate a table whose keys are not fixed."""
    for key in table:
        if not re.search(schema["propertyNames"]["pattern"], key):
            raise ConfigurationError(
                f"{key!r} in {location}", "it is not a valid label name", "Use letters, digits and underscores."
            )
    return {key: _validate(value, schema["additionalProperties"], location, key) for key, value in table.items()}


def _validate_indicator(table: Mapping[str, Any], location: str) -> dict[str, Any]:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in INDICATORS:
        raise ConfigurationError(
            f"sli kind {kind!r} of {location}", "there is no such kind", f"Use one of {', '.join(INDICATORS)}."
        )
    others = {key: value for key, value in table.items() if key != "kind"}
    return {"kind": kind, **_validate_table(others, INDICATORS[kind], f"the {kind} sli of {location}")}


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name][1]) and (not isinstance(value, int | float) or _is_finite(value))


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number above the range of floating-point numbers
        return False


def _is_in_range(value: Any, schema: Schema) -> bool:
    if isinstance(value, str):
        in_range = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        has_pattern = "pattern" not in schema or re.search(schema["pattern"], value) is not None
        return in_range and has_pattern and value in schema.get("enum", [value])
    if isinstance(value, bool):
        return True
    above = value >= schema.get("minimum", -math.inf) and value > schema.get("exclusiveMinimum", -math.inf)
    return bool(above and value < schema.get("exclusiveMaximum", math.inf))


def _error(value: Any, location: str, key: str, schema: Schema, types: list[str]) -> ConfigurationError:
    if "enum" in schema:
        expected = f"one of {', '.join(schema['enum'])}"
    else:
        expected = schema.get("description") or " or ".join(_TYPES[name][0] for name in types)
    bounds = [
        f"{text} {schema[bound]}"
        for bound, text in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("exclusiveMaximum", "below"))
        if bound in schema
    ]
    expected = ", ".join([expected, *bounds])
    text = "***" if schema.get("writeOnly") else repr(value)
    shown = f"{key} = {text} in {location}" if key else text
    hint = (
        f"Write [[{key}]] with two brackets." if "array" in types and isinstance(value, Mapping) else f"Use {expected}."
    )
    return ConfigurationError(shown, f"it is not {expected}", hint)
