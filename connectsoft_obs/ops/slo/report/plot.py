"""Line charts over time as SVG, without a plotting library, on a white background."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from connectsoft_obs.ops.prometheus_api import Points

WIDTH, HEIGHT = 760, 240
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 64, 16, 34, 28
COLOURS = ("#2563eb", "#d97706", "#059669", "#b91c1c", "#7c3aed", "#0891b2")


def line_chart(
    title: str,
    series: Sequence[tuple[str, Points]],
    start: float,
    end: float,
    *,
    thresholds: Sequence[tuple[float, str, str]] = (),
    unit: str = "",
    min_value: float | None = None,
    max_value: float | None = None,
) -> str:
    """Return an SVG document with one line for each series.

    Args:
        title: heading of the chart.
        series: name and points of each line.
        start: Unix time of the left edge.
        end: Unix time of the right edge.
        thresholds: value, colour and label of each dashed horizontal line.
        unit: `%` formats shares as percentages; anything else is appended to the numbers.
        min_value: value that the axis includes at the bottom; by default the axis fits the data.
        max_value: value that the axis includes at the top; by default the axis fits the data.
    """
    values = [value for _, points in series for _, value in points if math.isfinite(value)]
    ticks = _axis_ticks(
        min([*values, *([min_value] if min_value is not None else [])], default=0.0),
        max([*values, *([max_value] if max_value is not None else [])], default=1.0),
    )
    area = _PlotArea(start, end, ticks)
    body = [
        f'<text x="{MARGIN_LEFT}" y="18" font-size="13" font-weight="600">{escape(title)}</text>',
        *area.grid(unit),
        *area.threshold_lines(thresholds),
        *area.series_lines(series),
    ]
    if not values:
        body.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="#6b7280">no data</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui,sans-serif" font-size="11" fill="#374151" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


@dataclass(frozen=True, slots=True)
class _PlotArea:
    """Converts times and values to coordinates, and draws inside the margins."""

    start: float
    end: float
    ticks: Sequence[float]

    def x(self, time: float) -> float:
        return MARGIN_LEFT + (time - self.start) / (self.end - self.start) * (WIDTH - MARGIN_LEFT - MARGIN_RIGHT)

    def y(self, value: float) -> float:
        bottom, top = self.ticks[0], self.ticks[-1]
        return MARGIN_TOP + (top - value) / (top - bottom) * (HEIGHT - MARGIN_TOP - MARGIN_BOTTOM)

    def grid(self, unit: str) -> Iterator[str]:
        for tick in self.ticks:
            y, label = self.y(tick), _format_tick(tick, unit)
            yield f'<path d="M{MARGIN_LEFT} {y:.1f}H{WIDTH - MARGIN_RIGHT}" stroke="#e5e7eb"/>'
            yield f'<text x="{MARGIN_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        for time, label in _time_labels(self.start, self.end):
            yield f'<path d="M{self.x(time):.1f} {MARGIN_TOP}V{HEIGHT - MARGIN_BOTTOM}" stroke="#f1f5f9"/>'
            yield f'<text x="{self.x(time):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{label}</text>'

    def threshold_lines(self, thresholds: Sequence[tuple[float, str, str]]) -> Iterator[str]:
        right = WIDTH - MARGIN_RIGHT
        for value, colour, label in thresholds:
            if self.ticks[0] <= value <= self.ticks[-1]:
                y = self.y(value)
                yield f'<path d="M{MARGIN_LEFT} {y:.1f}H{right}" stroke="{colour}" stroke-dasharray="5 4"/>'
                yield (
                    f'<text x="{right - 4}" y="{y - 4:.1f}" text-anchor="end" fill="{colour}">{escape(label)}</text>'
                )

    def series_lines(self, series: Sequence[tuple[str, Points]]) -> Iterator[str]:
        max_gap = 2.5 * max((self.end - self.start) / 500, 300)
        for index, (name, points) in enumerate(series):
            colour = COLOURS[index % len(COLOURS)]
            coordinates = [(self.x(time), self.y(value), time) for time, value in points if math.isfinite(value)]
            if path := "".join(_path(coordinates, max_gap)):
                yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            if len(series) > 1:
                legend_x = WIDTH - MARGIN_RIGHT - 130 * (len(series) - index)
                yield f'<text x="{legend_x}" y="18" fill="{colour}">{escape(name)}</text>'


def _path(coordinates: Sequence[tuple[float, float, float]], max_gap: float) -> Iterator[str]:
    """Yield the path commands of a line through (x, y, Unix time), interrupted where data is missing.

    A point without a neighbour becomes a line of one pixel.
    """
    previous_time: float | None = None
    for index, (x, y, time) in enumerate(coordinates):
        is_connected = previous_time is not None and time - previous_time <= max_gap
        is_followed = index + 1 < len(coordinates) and coordinates[index + 1][2] - time <= max_gap
        yield f"{'L' if is_connected else 'M'}{x:.1f} {y:.1f}" + ("" if is_connected or is_followed else "h1")
        previous_time = time


def _axis_ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers that span the values."""
    span = high - low
    if span <= max(1e-6 * max(abs(low), abs(high)), 1e-12):  # a constant, apart from rounding errors
        span = abs(high) if abs(high) > 1e-12 else 1.0
    min_step = span / 5
    magnitude = 10 ** math.floor(math.log10(min_step))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= min_step * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _time_labels(start: float, end: float) -> Iterator[tuple[float, str]]:
    """Yield Unix times at full minutes, hours or days, at most ten of them, and their labels."""
    steps = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 5 * 86400, 10 * 86400, 30 * 86400)
    step = next((step for step in steps if (end - start) / step <= 9), steps[-1])
    time = math.ceil(start / step) * step
    while time <= end:
        pattern = "%d %b" if step >= 86400 else "%d %b %H:%M" if time % 86400 == 0 else "%H:%M"
        yield float(time), datetime.fromtimestamp(time, UTC).strftime(pattern)
        time += step


def _format_tick(value: float, unit: str) -> str:
    return f"{value * 100:g} %" if unit == "%" else f"{value:g}{unit}"
