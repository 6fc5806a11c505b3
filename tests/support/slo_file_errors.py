"""Files that differ from a valid `slo.toml` in one value: each key of the schema with each wrong type and value."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from connectsoft_obs.slo.schema import INDICATORS, SLO_FILE

Path = tuple[str | int, ...]

INDICATOR_TABLES: dict[str, dict[str, Any]] = {
    "http_availability": {},
    "latency": {"threshold": "500ms"},
    "percentile": {"threshold": "500ms", "quantile": 0.95},
    "success": {"job": "nightly"},
    "freshness": {"within": "2h", "job": "nightly"},
    "outage_limit": {"limit": "5m"},
    "ratio": {"bad": "sum(rate(a[{window}]))", "total": "sum(rate(b[{window}]))"},
}
"""The required keys of each SLI type."""

VALUES: tuple[tuple[Any, frozenset[str]], ...] = (
    ("", frozenset({"string"})),
    ("x", frozenset({"string"})),
    ("99.9%", frozenset({"string"})),
    ("1h30", frozenset({"string"})),
    ("10" * 200, frozenset({"string"})),
    (True, frozenset({"boolean"})),
    (0, frozenset({"number", "integer"})),
    (-1, frozenset({"number", "integer"})),
    (10**400, frozenset({"number", "integer"})),
    (99.9, frozenset({"number"})),
    (-0.5, frozenset({"number"})),
    (1e300, frozenset({"number"})),
    (math.nan, frozenset()),
    (math.inf, frozenset()),
    (-math.inf, frozenset()),
    ([], frozenset({"array"})),
    (["x"], frozenset({"array"})),
    ([[1]], frozenset({"array"})),
    ([{}], frozenset({"array"})),
    ({}, frozenset({"object"})),
    ({"a": 1}, frozenset({"object"})),
    (date(1979, 5, 27), frozenset()),
)
"""Values for every key, and the types of the JSON Schema that each of them has."""


@dataclass(frozen=True, slots=True)
class WrongFile:
    """A file that may have to be refused.

    Args:
        name: the key and what it has.
        text: the content of the file.
        must_be_refused: whether a type is wrong, or a key is unknown or missing.
    """

    name: str
    text: str
    must_be_refused: bool


def wrong_files() -> Iterator[WrongFile]:
    """Yield each key with each value, each table with an unknown key, and each table without a required key."""
    for kind, table in INDICATOR_TABLES.items():
        is_first = kind == "http_availability"
        for path, schema in _keys(SLO_FILE, ()) if is_first else _keys(_indicator_schema(kind), ("slo", 0, "sli")):
            yield from _files_of_key(kind, table, path, schema)
        if is_first:
            for path, schema in _keys(_indicator_schema(kind), ("slo", 0, "sli")):
                yield from _files_of_key(kind, table, path, schema)


def _files_of_key(kind: str, table: Mapping[str, Any], path: Path, schema: Mapping[str, Any]) -> Iterator[WrongFile]:
    label = f"{kind}: {'.'.join(map(str, path))}"
    types = schema.get("type", "string")
    allowed = {types} if isinstance(types, str) else set(types)
    for value, value_types in VALUES:
        is_wrong_type = not allowed & value_types
        yield WrongFile(f"{label} = {str(value)[:20]!r}", _render(_with(kind, table, path, value)), is_wrong_type)
    if schema.get("type") == "object" and "properties" in schema:
        unknown = _with(kind, table, (*path, "unknown_key"), 1)
        yield WrongFile(f"{label} with an unknown key", _render(unknown), True)
    if path[-1] in ("name", "kind", "sli", "service", "slo", "all_of", *table):
        missing = _with(kind, table, path, "x")
        _table_at(missing, path[:-1]).pop(path[-1])
        is_required = path[-1] != "job" or kind == "freshness"
        yield WrongFile(f"{label} missing", _render(missing), is_required)


def _indicator_schema(kind: str) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = {"kind": {"type": "string"}, **INDICATORS[kind]["properties"]}
    return {"properties": properties}


def _keys(schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for key, value in schema["properties"].items():
        yield (*path, key), value
        if "properties" in value:
            yield from _keys(value, (*path, key))
        elif "properties" in value.get("items", {}):
            yield from _keys(value["items"], (*path, key, 0))


def _with(kind: str, table: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a valid file in which one value is replaced."""
    content: dict[str, Any] = {
        "service": {"name": "shop", "team": "sales"},
        "slo": [
            {"name": "a", "sli": {"kind": kind, **table}},
            {"name": "b", "objective": 99, "sli": {"kind": "success"}},
        ],
        "composite": [{"name": "c", "all_of": ["a", "b"]}],
    }
    if kind not in ("percentile", "outage_limit"):
        content["slo"][0]["objective"] = 99.9
    content = copy.deepcopy(content)
    _table_at(content, path[:-1])[path[-1]] = value
    return content


def _table_at(content: Any, path: Path) -> Any:
    for key in path:
        content = content.setdefault(key, {}) if isinstance(content, dict) else content[key]
    return content


def _render(content: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in content.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else str(value)
