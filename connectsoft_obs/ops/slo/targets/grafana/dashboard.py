"""Dashboards of Grafana as values: panels that find their own places, variables, links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SCHEMA = 39
_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREY, RED, ORANGE, GREEN = "#8e8e8e", "red", "orange", "green"


class Dashboard:
    """A dashboard in the making; panels go from left to right, rows from top to bottom."""

    def __init__(self, uid: str, title: str, tags: Sequence[str], variables: Sequence[dict[str, Any]] = ()) -> None:
        self._panels: list[dict[str, Any]] = []
        self._x = self._y = self._height = 0
        self._head = {"uid": uid, "title": title, "tags": [*tags, "connectsoft"]}
        self._variables = [_datasource(), *variables]
        self._annotations: list[dict[str, Any]] = []
        self._links: list[dict[str, Any]] = []

    def row(self, title: str) -> None:
        """Begin a row."""
        self._break()
        self._add({"type": "row", "title": title, "collapsed": False, "panels": []}, _COLUMNS, 1)
        self._break()

    def panel(self, panel: dict[str, Any], width: int = 8, height: int = 8) -> None:
        """Add a panel."""
        if self._x + width > _COLUMNS:
            self._break()
        self._add(panel, width, height)

    def annotate(self, name: str, expression: str, title: str) -> None:
        """Mark the time in which an expression has a value."""
        self._annotations.append({
            "name": name, "datasource": DATASOURCE, "enable": True, "iconColor": RED, "expr": expression,
            "titleFormat": title, "step": "60s",
        })  # fmt: skip

    def link(self, title: str, url: str) -> None:
        """Link to somewhere else."""
        self._links.append({"title": title, "url": url, "type": "link", "targetBlank": True})

    def table(self) -> dict[str, Any]:
        """The dashboard as Grafana imports it."""
        return {
            **self._head,
            "id": None,
            "schemaVersion": SCHEMA,
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

    def _add(self, panel: dict[str, Any], width: int, height: int) -> None:
        place = {"x": self._x, "y": self._y, "w": width, "h": height}
        self._panels.append({"id": len(self._panels) + 1, **panel, "gridPos": place})
        self._x += width
        self._height = max(self._height, height)

    def _break(self) -> None:
        self._y += self._height
        self._x = self._height = 0


def custom(name: str, label: str, values: Sequence[str]) -> dict[str, Any]:
    """A variable whose values are written down: Azure lists no label values, and the model knows them."""
    options = [{"text": value, "value": value, "selected": index == 0} for index, value in enumerate(values)]
    first = {"text": values[0], "value": values[0]} if values else {}
    return {
        "name": name, "label": label, "type": "custom", "query": ",".join(values), "options": options,
        "current": first, "includeAll": False, "multi": False,
    }  # fmt: skip


def label_values(name: str, label: str, selector: str, attribute: str) -> dict[str, Any]:
    """A variable whose values are those of a label; all of them unless chosen."""
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
        "query": {"query": f"label_values({selector}, {attribute})", "refId": name}, "includeAll": True,
        "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def query(expression: str, legend: str = "", *, instant: bool = False, exemplars: bool = False) -> dict[str, Any]:
    """One query of a panel."""
    return {
        "datasource": DATASOURCE, "expr": expression, "legendFormat": legend or "__auto", "editorMode": "code",
        "range": not instant, "instant": instant, "exemplar": exemplars,
    }  # fmt: skip


def graph(
    title: str,
    queries: Sequence[dict[str, Any]],
    unit: str = "short",
    *,
    about: str = "",
    lines: Sequence[tuple[float, str]] = (),
    low: float | None = 0,
    stacked: bool = False,
) -> dict[str, Any]:
    """Lines over time; `lines` are (value, colour) of horizontal ones."""
    custom_: dict[str, Any] = {"fillOpacity": 20 if stacked else 8, "showPoints": "never", "spanNulls": False}
    if stacked:
        custom_["stacking"] = {"mode": "normal", "group": "A"}
    if lines:
        custom_["thresholdsStyle"] = {"mode": "dashed"}
    defaults: dict[str, Any] = {"unit": unit, "custom": custom_, **({} if low is None else {"min": low})}
    if lines:
        defaults["thresholds"] = _steps([(None, "transparent"), *lines])
    return _panel("timeseries", title, queries, about) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def heatmap_panel(title: str, expression: str, about: str = "") -> dict[str, Any]:
    """A histogram over time."""
    bucket = query(expression, "{{le}}") | {"format": "heatmap"}
    return _panel("heatmap", title, [bucket], about) | {
        "options": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Blues", "mode": "scheme"}},
        "fieldConfig": {"defaults": {}, "overrides": []},
    }


def stat(
    title: str,
    expression: str,
    unit: str = "short",
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    about: str = "",
) -> dict[str, Any]:
    """One number, coloured by where it lies; grey where there is none."""
    defaults = {
        "unit": unit,
        "thresholds": _steps(steps),
        "mappings": [{"type": "special", "options": {"match": "null", "result": {"text": "no data", "color": GREY}}}],
        "noValue": "no data",
    }
    return _panel("stat", title, [query(expression, instant=True)], about) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value"},
    }


def table_panel(
    title: str, columns: Sequence[tuple[str, str, str]], key: Sequence[str], about: str = ""
) -> dict[str, Any]:
    """A table: one line a series, one column a query, joined by labels.

    Args:
        title: what it lists.
        columns: title, unit and expression of each.
        key: labels that are columns too; all others are left out.
        about: what to know about it.
    """
    letters = [chr(ord("A") + index) for index in range(len(columns))]
    queries = [query(expression, instant=True) | {"format": "table"} for _, _, expression in columns]
    names = {f"Value #{letter}": head for letter, (head, _, _) in zip(letters, columns, strict=True)}
    overrides = [
        {"matcher": {"id": "byName", "options": head}, "properties": [{"id": "unit", "value": unit}]}
        for head, unit, _ in columns
    ]
    return _panel("table", title, queries, about) | {
        "fieldConfig": {"defaults": {"custom": {"align": "auto"}}, "overrides": overrides},
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": [*key, *names]}}},
            {"id": "organize", "options": {"renameByName": names}},
        ],
        "options": {"showHeader": True},
    }


def _panel(kind: str, title: str, queries: Sequence[dict[str, Any]], about: str) -> dict[str, Any]:
    targets = [{"refId": chr(ord("A") + index), **one} for index, one in enumerate(queries)]
    return {"type": kind, "title": title, "description": about, "datasource": DATASOURCE, "targets": targets}


def _steps(steps: Sequence[tuple[float | None, str]]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "current": {}}
