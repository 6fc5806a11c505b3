"""JSON Schema of `slo.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectsoft_obs.slo.receivers import RECEIVERS_TABLE
from connectsoft_obs.vocabulary import JOB_DURATION, REQUEST_DURATION, Severity

Schema = Mapping[str, Any]

_TEXT: Final = {"type": "string"}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 63}
_QUANTILE: Final = {
    "type": "number",
    "exclusiveMinimum": 0,
    "exclusiveMaximum": 1,
    "description": "a fraction between 0 and 1, such as 0.95",
}
_BOOLEAN: Final = {"type": "boolean"}
_DURATION: Final = {"type": ["string", "number"], "description": "a duration such as 500ms or 30d, or seconds"}
_ROUTES: Final = {
    "type": ["array", "string"],
    "minItems": 1,
    "items": {
        "type": "string",
        "pattern": r"^/[^\s?#]*$",
        "description": "a route template that begins with /, without query and spaces",
    },
}
_TEXTS: Final = {"type": ["array", "string"], "minItems": 1, "items": {"type": "string", "minLength": 1}}
_LABEL_VALUE: Final = {"type": "string", "minLength": 1, "description": "text that is not empty"}
_METRIC: Final = {
    "type": "string",
    "pattern": r"^[A-Za-z_:][A-Za-z0-9_.:]*$",
    "description": "the name of a metric",
}
_INTERVAL: Final = {**_DURATION, "default": "30s"}
_NUMBERS: Final = {"type": ["array", "number"], "items": {"type": "number", "minimum": 0}}


def _table(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_MATCHERS: Final[Mapping[str, Schema]] = {
    "routes": _ROUTES,
    "methods": _TEXTS,
    "job": _LABEL_VALUE,
    "destination": _LABEL_VALUE,
}
_HISTOGRAM: Final[Mapping[str, Schema]] = {
    "instrument": {**_METRIC, "default": REQUEST_DURATION.name},
    "boundaries": _NUMBERS,
    "bad_status": _TEXTS,
    **_MATCHERS,
}
_ERRORS: Final = {"type": "string", "enum": ["bad", "apart"]}

INDICATORS: Final[Mapping[str, Schema]] = {
    "http_availability": _table(routes=_ROUTES, methods=_TEXTS, bad_status=_TEXTS),
    "latency": _table(("threshold",), threshold=_DURATION, errors=_ERRORS, **_HISTOGRAM),
    "percentile": _table(
        ("threshold", "quantile"), threshold=_DURATION, quantile=_QUANTILE, errors=_ERRORS, **_HISTOGRAM
    ),
    "success": _table(instrument={**_METRIC, "default": JOB_DURATION.name}, job=_LABEL_VALUE, destination=_LABEL_VALUE),
    "freshness": _table(("within",), within=_DURATION, job=_LABEL_VALUE, timestamp=_METRIC),
    "outage_limit": _table(
        ("limit",),
        limit=_DURATION,
        allowed={"type": "integer", "minimum": 0, "default": 0},
        page_after=_DURATION,
        outage_when={"type": "number", "description": "a fraction of at most 1", "exclusiveMinimum": 0, "default": 0.5},
        routes=_ROUTES,
        methods=_TEXTS,
    ),
    "ratio": _table(("bad", "total"), bad=_TEXT, total=_TEXT),
}
"""Keys of each SLI type, apart from `kind`."""

_LABELS: Final = {
    "type": "object",
    "additionalProperties": _TEXT,
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "description": "a table of names and texts",
}
_ALERTING: Final = _table(
    min_bad_events={"type": "integer", "minimum": 1, "default": 3},
    hard_down=_BOOLEAN,
    no_data=_BOOLEAN,
    wide=_BOOLEAN,
    severity={"type": "string", "enum": [severity.value for severity in Severity], "default": Severity.SEV1.value},
    disable={"type": ["array", "string"], "minItems": 1, "items": {"type": "string", "enum": ["page", "ticket"]}},
    labels=_LABELS,
    annotations=_LABELS,
    page_labels=_LABELS,
    page_annotations=_LABELS,
    ticket_labels=_LABELS,
    ticket_annotations=_LABELS,
)
_SLO: Final = _table(
    ("name", "sli"),
    name=_NAME,
    objective={
        "type": "number",
        "exclusiveMinimum": 1,
        "exclusiveMaximum": 100,
        "description": "a percentage such as 99.9, not a fraction",
    },
    sli={
        "type": "object",
        "required": ["kind"],
        "oneOf": [
            {
                **table,
                "properties": {"kind": {"const": kind}, **table["properties"]},
                "required": ["kind", *table["required"]],
            }
            for kind, table in INDICATORS.items()
        ],
    },
    description=_TEXT,
    owner=_TEXT,
    runbook=_TEXT,
    period=_DURATION,
    alerting=_ALERTING,
    traffic={"type": "number", "minimum": 0},
)

SLO_FILE: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "slo.toml of connectsoft-obs",
    **_table(
        ("service",),
        service=_table(
            ("name",),
            name=_NAME,
            team=_TEXT,
            source={"type": "string", "enum": ["events", "metrics"], "default": "events"},
            selector=_TEXT,
            period={**_DURATION, "default": "30d"},
            runbook_base=_TEXT,
            dashboard_base=_TEXT,
            always_on={**_BOOLEAN, "default": True},
            scraped=_BOOLEAN,
        ),
        prometheus=_table(scrape_interval=_INTERVAL, interval=_INTERVAL, retention=_DURATION),
        receivers=RECEIVERS_TABLE,
        policy=_table(
            review_at={**_NUMBERS, "default": [50, 25, 0]},
            min_remaining={
                "type": "number",
                "minimum": 0,
                "exclusiveMaximum": 100,
                "description": "a percentage",
                "default": 0,
            },
            unknown={"type": "string", "enum": ["fail", "pass"], "default": "fail"},
            approver=_TEXT,
            reviewed={
                "type": "string",
                "pattern": r"^\d{4}-\d{2}-\d{2}$",
                "description": "a date in quotes such as 2026-10-01",
            },
            review_every={**_DURATION, "default": "90d"},
        ),
        slo={"type": "array", "minItems": 1, "items": _SLO, "description": "a list of at least one SLO"},
        composite={
            "type": "array",
            "items": _table(("name", "all_of"), name=_NAME, all_of=_TEXTS, description=_TEXT),
        },
    ),
}
"""The schema of the file, for editors and for validation."""
