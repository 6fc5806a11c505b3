"""Renders a generated Grafana dashboard as SVG from the data in a Prometheus server, without Grafana."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import httpx

from connectsoft_obs.ops.slo.report.plot import line_chart
from support.servers import Prometheus

COLUMN_WIDTH, ROW_HEIGHT, MARGIN = 58, 30, 12
"""Pixels of one grid unit of Grafana, and around the dashboard."""
UNITS = {"percentunit": (100, " %"), "s": (1, " s"), "bytes": (1 / 2**20, " MiB"), "reqps": (1, "/s")}
"""Factor and suffix by Grafana unit."""


def render_dashboard(
    dashboard: Mapping[str, Any], server: Prometheus, start: float, end: float, variables: Mapping[str, str]
) -> str:
    """Return a dashboard as SVG.

    Args:
        dashboard: the dashboard model.
        server: the data source.
        start: Unix time of the left edge of graphs.
        end: Unix time of the right edge of graphs, and of single values.
        variables: values of template variables; all others match everything.
    """
    panels = dashboard["panels"]
    grid_height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height, width = grid_height * ROW_HEIGHT + 2 * MARGIN + 30, 24 * COLUMN_WIDTH + 2 * MARGIN
    data = _PanelData(server, start, end, variables)
    title = f'<text x="{MARGIN}" y="26" font-size="17" font-weight="600">{escape(dashboard["title"])}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="DejaVu Sans,sans-serif">'
        f'<rect width="100%" height="100%" fill="#f4f5f5"/>{title}'
        f"{''.join(_panel(panel, data) for panel in panels)}</svg>\n"
    )


class _PanelData:
    """Evaluates the queries of panels."""

    def __init__(self, server: Prometheus, start: float, end: float, variables: Mapping[str, str]) -> None:
        self.start, self.end = start, end
        self._server, self._variables = server, variables

    def query_range(self, target: Mapping[str, Any], step: float) -> Iterator[tuple[str, list[tuple[float, float]]]]:
        """Yield the legend and the points of each series of a query."""
        parameters: dict[str, Any] = {
            "query": self._substitute(target["expr"]),
            "start": self.start,
            "end": self.end,
            "step": step,
        }
        response = httpx.get(f"{self._server.url}/api/v1/query_range", params=parameters, timeout=30).json()
        for series in response["data"]["result"]:
            labels = series["metric"]
            legend = target["legendFormat"] if target["legendFormat"] != "__auto" else ",".join(labels.values())
            for name in re.findall(r"\{\{(\w+)\}\}", legend):
                legend = legend.replace("{{" + name + "}}", labels.get(name, ""))
            yield legend or "value", [(float(time), float(value)) for time, value in series["values"]]

    def query(self, target: Mapping[str, Any]) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series of a query, at the end."""
        parameters: dict[str, Any] = {"query": self._substitute(target["expr"]), "time": self.end}
        response = httpx.get(f"{self._server.url}/api/v1/query", params=parameters, timeout=30).json()
        return [(series["metric"], float(series["value"][1])) for series in response["data"]["result"]]

    def _substitute(self, expression: str) -> str:
        for name, value in self._variables.items():
            expression = expression.replace(f"${name}", value)
        return re.sub(r"\$(?!\{)[a-z_]+", ".*", expression)


def _panel(panel: Mapping[str, Any], data: _PanelData) -> str:
    position = panel["gridPos"]
    x, y = MARGIN + position["x"] * COLUMN_WIDTH, 36 + position["y"] * ROW_HEIGHT
    width, height = position["w"] * COLUMN_WIDTH - 6, position["h"] * ROW_HEIGHT - 6
    if panel["type"] == "row":
        return f'<text x="{x}" y="{y + 18}" font-size="14" font-weight="600">{escape(panel["title"])}</text>'
    frame = f'<rect width="{width}" height="{height}" fill="#fff" stroke="#dcdcdc"/>'
    draw = {"stat": _stat, "table": _table}.get(panel["type"], _graph)
    return f'<svg x="{x}" y="{y}" width="{width}" height="{height}">{frame}{draw(panel, data, width, height)}</svg>'


def _graph(panel: Mapping[str, Any], data: _PanelData, width: float, height: float) -> str:
    step = (data.end - data.start) / 200
    series = [line for target in panel["targets"] for line in data.query_range(target, step)]
    defaults = panel["fieldConfig"]["defaults"]
    factor, unit = UNITS.get(defaults.get("unit", ""), (1, ""))
    has_threshold_lines = "thresholdsStyle" in defaults.get("custom", {})
    steps = defaults.get("thresholds", {}).get("steps", []) if has_threshold_lines else []
    svg = line_chart(
        panel["title"],
        [(name[:22], [(time, value * factor) for time, value in points]) for name, points in series[-5:]],
        data.start,
        data.end,
        thresholds=[
            (step["value"] * factor, _colour(step["color"]), "") for step in steps if step["value"] is not None
        ],
        unit=unit,
    )
    return re.sub(r' width="\d+" height="\d+"', f' width="{width}" height="{height}"', svg, count=1)


def _stat(panel: Mapping[str, Any], data: _PanelData, width: float, height: float) -> str:
    result = data.query(panel["targets"][0])
    defaults = panel["fieldConfig"]["defaults"]
    text, colour = "no data", "#6b7280"
    if result:
        value = result[0][1]
        factor, unit = UNITS.get(defaults.get("unit", ""), (1, ""))
        text = f"{value * factor:.4g}{unit}"
        for step in defaults.get("thresholds", {}).get("steps", []):
            colour = _colour(step["color"]) if step["value"] is None or value >= step["value"] else colour
    title = f'<text x="10" y="20" font-size="12">{escape(panel["title"])}</text>'
    return f'{title}<text x="{width / 2}" y="{height / 2 + 18}" font-size="30" text-anchor="middle" fill="{colour}">{text}</text>'


def _table(panel: Mapping[str, Any], data: _PanelData, width: float, height: float) -> str:
    columns = [{labels.get("slo_id", ""): value for labels, value in data.query(target)} for target in panel["targets"]]
    headings = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
    slo_ids = sorted({slo_id for column in columns for slo_id in column})
    lines = [("", headings)] + [
        (slo_id, [f"{column[slo_id]:.4g}" if slo_id in column else "-" for column in columns]) for slo_id in slo_ids
    ]
    svg = f'<text x="10" y="20" font-size="12">{escape(panel["title"])}</text>'
    for index, (slo_id, cells) in enumerate(lines):
        y = 44 + index * 22
        svg += f'<text x="10" y="{y}" font-size="12">{escape(slo_id)}</text>'
        svg += "".join(
            f'<text x="{width * (0.3 + 0.17 * column)}" y="{y}" font-size="12">{escape(cell)}</text>'
            for column, cell in enumerate(cells)
        )
    return svg


def _colour(name: str) -> str:
    return {"green": "#059669", "orange": "#d97706", "red": "#b91c1c", "transparent": "none"}.get(name, name)
