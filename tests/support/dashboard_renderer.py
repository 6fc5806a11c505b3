"""A picture of a generated dashboard: each panel drawn from its own queries, for those who have no Grafana at hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import httpx

from connectsoft_obs.ops.slo.report.plot import lines
from support.servers import Prometheus

COLUMN, LINE, EDGE = 58, 30, 12
UNITS = {"percentunit": (100, " %"), "s": (1, " s"), "bytes": (1 / 2**20, " MiB"), "reqps": (1, "/s")}


def preview(board: Mapping[str, Any], server: Prometheus, start: float, end: float, chosen: Mapping[str, str]) -> str:
    """The dashboard as SVG, over a stretch of time, with its variables set."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * LINE + 2 * EDGE + 30
    width = 24 * COLUMN + 2 * EDGE
    parts = [_panel(panel, _Asked(server, start, end, chosen), _place(panel["gridPos"])) for panel in board["panels"]]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="DejaVu Sans,sans-serif">'
        f'<rect width="100%" height="100%" fill="#f4f5f5"/>'
        f'<text x="{EDGE}" y="26" font-size="17" font-weight="600">{escape(board["title"])}</text>{"".join(parts)}</svg>\n'
    )


class _Asked:
    """What panels ask, over the chosen time."""

    def __init__(self, server: Prometheus, start: float, end: float, chosen: Mapping[str, str]) -> None:
        self._server, self.start, self.end, self._chosen = server, start, end, chosen

    def series(self, target: Mapping[str, Any], step: float) -> Iterator[tuple[str, list[tuple[float, float]]]]:
        """Legend and points of each line of a query."""
        form: dict[str, Any] = {
            "query": self._filled(target["expr"]),
            "start": self.start,
            "end": self.end,
            "step": step,
        }
        answer = httpx.get(f"{self._server.url}/api/v1/query_range", params=form, timeout=30).json()
        for row in answer["data"]["result"]:
            labels = row["metric"]
            legend = target["legendFormat"] if target["legendFormat"] != "__auto" else ",".join(labels.values())
            for name in re.findall(r"\{\{(\w+)\}\}", legend):
                legend = legend.replace("{{" + name + "}}", labels.get(name, ""))
            yield legend or "value", [(float(at), float(value)) for at, value in row["values"]]

    def rows(self, target: Mapping[str, Any]) -> list[tuple[dict[str, str], float]]:
        """Labels and values of a query at the end."""
        form: dict[str, Any] = {"query": self._filled(target["expr"]), "time": self.end}
        answer = httpx.get(f"{self._server.url}/api/v1/query", params=form, timeout=30).json()
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def _filled(self, expression: str) -> str:
        for name, value in self._chosen.items():
            expression = expression.replace(f"${name}", value)
        return re.sub(r"\$(?!\{)[a-z_]+", ".*", expression)


def _place(grid: Mapping[str, int]) -> tuple[float, float, float, float]:
    return EDGE + grid["x"] * COLUMN, 36 + grid["y"] * LINE, grid["w"] * COLUMN - 6, grid["h"] * LINE - 6


def _panel(panel: Mapping[str, Any], asked: _Asked, place: tuple[float, float, float, float]) -> str:
    x, y, width, height = place
    if panel["type"] == "row":
        return f'<text x="{x}" y="{y + 18}" font-size="14" font-weight="600">{escape(panel["title"])}</text>'
    frame = f'<rect width="{width}" height="{height}" fill="#fff" stroke="#dcdcdc"/>'
    draw = {"stat": _stat, "table": _table}.get(panel["type"], _graph)
    return f'<svg x="{x}" y="{y}" width="{width}" height="{height}">{frame}{draw(panel, asked, width, height)}</svg>'


def _graph(panel: Mapping[str, Any], asked: _Asked, width: float, height: float) -> str:
    found = [line for target in panel["targets"] for line in asked.series(target, (asked.end - asked.start) / 200)]
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", []) if "thresholdsStyle" in defaults.get("custom", {}) else []
    marks = [(step["value"], _colour(step["color"]), "") for step in steps if step["value"] is not None]
    factor, unit = UNITS.get(defaults.get("unit", ""), (1, ""))
    shown = [(name[:22], [(at, value * factor) for at, value in points]) for name, points in found[-5:]]
    svg = lines(
        panel["title"], shown, asked.start, asked.end, marks=[(at * factor, *rest) for at, *rest in marks], unit=unit
    )
    return re.sub(r' width="\d+" height="\d+"', f' width="{width}" height="{height}"', svg, count=1)


def _stat(panel: Mapping[str, Any], asked: _Asked, width: float, height: float) -> str:
    rows = asked.rows(panel["targets"][0])
    defaults = panel["fieldConfig"]["defaults"]
    text, colour = "no data", "#6b7280"
    if rows:
        value = rows[0][1]
        factor, unit = UNITS.get(defaults.get("unit", ""), (1, ""))
        text = f"{value * factor:.4g}{unit}"
        for step in defaults.get("thresholds", {}).get("steps", []):
            colour = _colour(step["color"]) if step["value"] is None or value >= step["value"] else colour
    title = f'<text x="10" y="20" font-size="12">{escape(panel["title"])}</text>'
    return f'{title}<text x="{width / 2}" y="{height / 2 + 18}" font-size="30" text-anchor="middle" fill="{colour}">{text}</text>'


def _table(panel: Mapping[str, Any], asked: _Asked, width: float, height: float) -> str:
    columns = [{row.get("slo_id", ""): value for row, value in asked.rows(target)} for target in panel["targets"]]
    names = sorted({name for column in columns for name in column})
    heads = ["objective", "budget left", "burn rate, 1h", "known for"]
    cells = [("", 0, heads)] + [
        (name, index + 1, [f"{column[name]:.4g}" if name in column else "-" for column in columns])
        for index, name in enumerate(names)
    ]
    found = f'<text x="10" y="20" font-size="12">{escape(panel["title"])}</text>'
    for name, index, values in cells:
        at = 44 + index * 22
        found += f'<text x="10" y="{at}" font-size="12">{escape(name)}</text>'
        found += "".join(
            f'<text x="{width * (0.3 + 0.17 * place)}" y="{at}" font-size="12">{escape(value)}</text>'
            for place, value in enumerate(values)
        )
    return found


def _colour(name: str) -> str:
    return {"green": "#059669", "orange": "#d97706", "red": "#b91c1c", "transparent": "none"}.get(name, name)
