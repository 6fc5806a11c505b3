"""The table of keys and the published JSON Schema agree with the code. Run this file as a script to write both."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.slo_file_errors import INDICATOR_TABLES

from connectsoft_obs.slo.schema import INDICATORS, SLO_FILE
from connectsoft_obs.slo.serialization import from_dict

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
START, END = "<!-- generated from connectsoft_obs.slo.schema -->\n", "<!-- end -->\n"
HEAD = "| key | type | values | default |\n|---|---|---|---|\n"
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "minItems": "number of values at least {}",
    "pattern": "matches `{}`",
}
TABLES: dict[str, Mapping[str, Any]] = {
    **{
        f"[{name}]": SLO_FILE["properties"][name] for name in SLO_FILE["properties"] if name not in ("slo", "composite")
    },
    "[[slo]]": SLO_FILE["properties"]["slo"]["items"],
    "alerting of [[slo]]": SLO_FILE["properties"]["slo"]["items"]["properties"]["alerting"],
    **{f"sli of kind {kind}": table for kind, table in INDICATORS.items()},
    "[[composite]]": SLO_FILE["properties"]["composite"]["items"],
}


def keys_table() -> str:
    """All keys of the file as Markdown tables, one for each table of the file."""
    return "\n".join(f"`{name}`\n\n{HEAD}{''.join(_rows(table))}" for name, table in TABLES.items())


def _rows(table: Mapping[str, Any]) -> Iterator[str]:
    for key, schema in table["properties"].items():
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        default = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
        yield (
            f"| `{key}` | {' or '.join(types)} | {', '.join(_values(schema))} | "
            f"{'required' if key in table['required'] else default} |\n"
        )


def _values(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield " or ".join(f"`{value}`" for value in schema["enum"])
    if "description" in schema:
        yield schema["description"]
    for bound, text in BOUNDS.items():
        if bound in schema:
            yield text.format(str(schema[bound]).replace("|", "\\|"))
    if "items" in schema and (of_each := ", ".join(_values(schema["items"]))):
        yield f"each {of_each}"


def with_current_table(text: str) -> str:
    """Return the page with a newly generated table."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{keys_table()}{END}{rest.partition(END)[2]}"


def defaults() -> Iterator[tuple[str, str]]:
    """Yield each table and key that has a default."""
    for name, table in TABLES.items():
        yield from ((name, key) for key, schema in table["properties"].items() if "default" in schema)


def test_reference_of_keys_is_up_to_date() -> None:
    text = (REFERENCE / "slos.md").read_text()
    assert text == with_current_table(text), f"docs/reference/slos.md is out of date; run python {__file__}"


def test_published_schema_is_the_schema_of_the_code() -> None:
    published = json.loads((REFERENCE / "slo.schema.json").read_text())
    assert published == json.loads(json.dumps(SLO_FILE)), f"slo.schema.json is out of date; run python {__file__}"


@pytest.mark.parametrize(("table", "key"), list(defaults()))
def test_key_with_its_default_is_equal_to_the_absent_key(table: str, key: str) -> None:
    kind = table.removeprefix("sli of kind ") if table.startswith("sli") else "http_availability"
    content: dict[str, Any] = {
        "service": {"name": "a"},
        "slo": [{"name": "b", "sli": {"kind": kind, **INDICATOR_TABLES[kind]}, "alerting": {}}],
    }
    if kind not in ("percentile", "outage_limit"):
        content["slo"][0]["objective"] = 99
    explicit = copy.deepcopy(content)
    changed = {
        "[[slo]]": explicit["slo"][0],
        "alerting of [[slo]]": explicit["slo"][0]["alerting"],
        **{f"sli of kind {name}": explicit["slo"][0]["sli"] for name in INDICATORS},
    }.get(table)
    if changed is None:
        changed = explicit.setdefault(table.strip("[]"), {})
    changed[key] = TABLES[table]["properties"][key]["default"]
    assert from_dict(explicit) == from_dict(content)


if __name__ == "__main__":
    (REFERENCE / "slo.schema.json").write_text(json.dumps(SLO_FILE, indent=2) + "\n")
    (REFERENCE / "slos.md").write_text(with_current_table((REFERENCE / "slos.md").read_text()))
