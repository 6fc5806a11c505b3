"""Builds Grafana dashboard JSON: panel layout, template variables, annotations and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectsoft_obs.ops.slo.rules import dashboard_uid
from connectsoft_obs.slo.model import ServiceSLOs

SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE_WINDOW = "[$__rate_interval]"
GREY, RED, ORANGE, GREEN, BLUE = "#8e8e8e", "red", "orange", "green", "blue"
BUDGET_THRESHOLDS: list[tuple[float | None, str]] = [(None, RED), (0.0001, ORANGE), (0.25, GREEN)]
"""Colours for the remaining share of an error budget: none left, little left, enough left."""
_COLUMNS = 24


class Dashboard:
    """A dashboard under construction. Panels are placed from left to right, and on a new line when a line is full."""

    def __init__(self, uid: str, title: str, tags: Sequence[str], variables: Sequence[dict[str, Any]] = ()) -> None:
        self._panels: list[dict[str, Any]] = []
        self._x = self._y = self._line_height = 0
        self._header = {"uid": uid, "title": title, "tags": [*tags, "connectsoft"]}
        self._variables = [_datasource_variable(), *variables]
        self._annotations: list[dict[str, Any]] = []
        self._links: list[dict[str, Any]] = []

    def add_row(self, title: str) -> None:
        """Start a row with a heading."""
        self._start_line()
        self._place({"type": "row", "title": title, "collapsed": False, "panels": []}, _COLUMNS, 1)
        self._start_line()

    def add_panel(self, panel: dict[str, Any], width: int = 8, height: int = 8) -> None:
        """Add a panel. Width and height are in grid units; a line is 24 units wide."""
        if self._x + width > _COLUMNS:
            self._start_line()
        self._place(panel, width, height)

    def add_annotation(
        self, name: str, expression: str, title: str, colour: str, *, value_is_time: bool = False
    ) -> None:
        """Mark on all graphs when an expression returns a value, or the time in milliseconds that it returns."""
        self._annotations.append({
            "name": name, "datasource": DATASOURCE, "enable": True, "iconColor": colour, "expr": expression,
            "titleFormat": title, "step": "60s", "useValueForTime": value_is_time,
        })  # fmt: skip

    def add_link(self, title: str, url: str) -> None:
        """Add a link to the header of the dashboard."""
        self._links.append({"title": title, "url": url, "type": "link", "targetBlank": True})

    def to_dict(self) -> dict[str, Any]:
        """Return the dashboard model that Grafana imports."""
        return {
            **self._header,
            "id": None,
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "1m",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": self._annotations},
            "links": self._links,
            "templating": {"list": self._variables},
            "panels": self._panels,
        }

    def _place(self, panel: dict[str, Any], width: int, height: int) -> None:
        position = {"x": self._x, "y": self._y, "w": width, "h": height}
        self._panels.append({"id": len(self._panels) + 1, **panel, "gridPos": position})
        self._x += width
        self._line_height = max(self._line_height, height)

    def _start_line(self) -> None:
        self._y += self._line_height
        self._x = self._line_height = 0


def service_dashboard(
    service_slos: ServiceSLOs, kind: str, title: str, variables: Sequence[dict[str, Any]] = ()
) -> Dashboard:
    """Return an empty dashboard of one service.

    Args:
        service_slos: the service.
        kind: tag, and part of the UID: `slo`, `red` or `workers`.
        title: what the dashboard shows; the service name is put before it.
        variables: template variables besides the data source.
    """
    service = service_slos.service
    return Dashboard(dashboard_uid(service, kind), f"{service}: {title}", [kind, service], variables)


def custom_variable(name: str, label: str, values: Sequence[str]) -> dict[str, Any]:
    """Return a single-choice variable with a fixed list of values, because Azure Monitor cannot list label values."""
    options = [{"text": value, "value": value, "selected": index == 0} for index, value in enumerate(values)]
    current = {"text": values[0], "value": values[0]} if values else {}
    return {
        "name": name, "label": label, "type": "custom", "query": ",".join(values), "options": options,
        "current": current, "includeAll": False, "multi": False,
    }  # fmt: skip


def label_values_variable(name: str, title: str, selector: str, label: str) -> dict[str, Any]:
    """Return a multiple-choice variable with the values of a label; all values are selected by default."""
    return {
        "name": name, "label": title, "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
        "query": {"query": f"label_values({selector}, {label})", "refId": name}, "includeAll": True,
        "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def query(expression: str, legend: str = "", *, instant: bool = False, exemplars: bool = False) -> dict[str, Any]:
    """Return one query of a panel."""
    return {
        "datasource": DATASOURCE, "expr": expression, "legendFormat": legend or "__auto", "editorMode": "code",
        "range": not instant, "instant": instant, "exemplar": exemplars,
    }  # fmt: skip


def label_legend(*labels: str) -> str:
    """Return a legend that shows the values of labels."""
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def timeseries_panel(
    title: str,
    queries: Sequence[dict[str, Any]],
    unit: str = "short",
    *,
    description: str = "",
    thresholds: Sequence[tuple[float, str]] = (),
    min_value: float | None = 0,
    stacked: bool = False,
) -> dict[str, Any]:
    """Return a graph over time.

    Args:
        title: heading of the panel.
        queries: one or more results of `query`.
        unit: Grafana unit of the values.
        description: help text of the panel.
        thresholds: value and colour of each dashed horizontal line.
        min_value: lower end of the axis; None to fit the data.
        stacked: whether the series are stacked.
    """
    custom: dict[str, Any] = {"fillOpacity": 20 if stacked else 8, "showPoints": "never", "spanNulls": False}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    if thresholds:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    defaults: dict[str, Any] = {"unit": unit, "custom": custom, **({} if min_value is None else {"min": min_value})}
    if thresholds:
        defaults["thresholds"] = _threshold_steps([(None, "transparent"), *thresholds])
    return _panel("timeseries", title, queries, description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def heatmap_panel(title: str, expression: str, description: str = "") -> dict[str, Any]:
    """Return a heatmap of histogram buckets over time, in seconds."""
    buckets = query(expression, "{{le}}") | {"format": "heatmap"}
    return _panel("heatmap", title, [buckets], description) | {
        "options": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Blues", "mode": "scheme"}},
        "fieldConfig": {"defaults": {}, "overrides": []},
    }


def stat_panel(
    title: str,
    expression: str,
    unit: str = "short",
    *,
    thresholds: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    description: str = "",
) -> dict[str, Any]:
    """Return a panel with one number, coloured by its thresholds; grey without data."""
    defaults = {
        "unit": unit,
        "thresholds": _threshold_steps(thresholds),
        "mappings": [{"type": "special", "options": {"match": "null", "result": {"text": "no data", "color": GREY}}}],
        "noValue": "no data",
    }
    return _panel("stat", title, [query(expression, instant=True)], description) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value"},
    }


def table_panel(
    title: str, columns: Sequence[tuple[str, str, str]], labels: Sequence[str], description: str = ""
) -> dict[str, Any]:
    """Return a table with one column for each query, and one line for each combination of labels.

    Args:
        title: heading of the panel.
        columns: heading, unit and expression of each column.
        labels: labels that are shown as columns; all others are hidden.
        description: help text of the panel.
    """
    letters = [chr(ord("A") + index) for index in range(len(columns))]
    queries = [query(expression, instant=True) | {"format": "table"} for _, _, expression in columns]
    headings = {f"Value #{letter}": heading for letter, (heading, _, _) in zip(letters, columns, strict=True)}
    overrides = [
        {"matcher": {"id": "byName", "options": heading}, "properties": [{"id": "unit", "value": unit}]}
        for heading, unit, _ in columns
    ]
    return _panel("table", title, queries, description) | {
        "fieldConfig": {"defaults": {"custom": {"align": "auto"}}, "overrides": overrides},
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": [*labels, *headings]}}},
            {"id": "organize", "options": {"renameByName": headings}},
        ],
        "options": {"showHeader": True},
    }


def _panel(kind: str, title: str, queries: Sequence[dict[str, Any]], description: str) -> dict[str, Any]:
    targets = [{"refId": chr(ord("A") + index), **target} for index, target in enumerate(queries)]
    return {"type": kind, "title": title, "description": description, "datasource": DATASOURCE, "targets": targets}


def _threshold_steps(thresholds: Sequence[tuple[float | None, str]]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in thresholds]}


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "current": {}}
