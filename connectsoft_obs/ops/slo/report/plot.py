"""Lines over time as SVG: small, without a library, and readable on any background."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from connectsoft_obs.ops.prometheus_api import Points

WIDTH, HEIGHT = 760, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 28
COLOURS = ("#2563eb", "#d97706", "#059669", "#b91c1c", "#7c3aed", "#0891b2")


def lines(
    title: str,
    series: Sequence[tuple[str, Points]],
    start: float,
    end: float,
    *,
    marks: Sequence[tuple[float, str, str]] = (),
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> str:
    """A chart of several lines.

    Args:
        title: what it shows.
        series: name and points of each line.
        start: Unix time of the left edge.
        end: Unix time of the right edge.
        marks: horizontal lines: value, colour, text.
        unit: `%` shows shares as percentages, anything else follows the number.
        low: least value shown; the data's by default.
        high: largest value shown; the data's by default.
    """
    values = [value for _, points in series for _, value in points if math.isfinite(value)]
    frame = _Frame(
        start,
        end,
        _ticks(
            min([*values, *([low] if low is not None else [])], default=0.0),
            max([*values, *([high] if high is not None else [])], default=1.0),
        ),
    )
    body = [
        f'<text x="{LEFT}" y="18" font-size="13" font-weight="600">{escape(title)}</text>',
        *frame.grid(unit),
        *frame.marked(marks),
        *frame.drawn(series),
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
class _Frame:
    """Where moments and values are on the chart."""

    start: float
    end: float
    ticks: Sequence[float]

    def x(self, moment: float) -> float:
        return LEFT + (moment - self.start) / (self.end - self.start) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        bottom, top = self.ticks[0], self.ticks[-1]
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    def grid(self, unit: str) -> Iterator[str]:
        for tick in self.ticks:
            yield f'<path d="M{LEFT} {self.y(tick):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>'
            yield f'<text x="{LEFT - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{_shown(tick, unit)}</text>'
        for moment, text in _moments(self.start, self.end):
            yield f'<path d="M{self.x(moment):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#f1f5f9"/>'
            yield f'<text x="{self.x(moment):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>'

    def marked(self, marks: Sequence[tuple[float, str, str]]) -> Iterator[str]:
        for value, colour, text in marks:
            if self.ticks[0] <= value <= self.ticks[-1]:
                at = self.y(value)
                yield f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{colour}" stroke-dasharray="5 4"/>'
                yield (
                    f'<text x="{WIDTH - RIGHT - 4}" y="{at - 4:.1f}" text-anchor="end" fill="{colour}">'
                    f"{escape(text)}</text>"
                )

    def drawn(self, series: Sequence[tuple[str, Points]]) -> Iterator[str]:
        gap = 2.5 * max((self.end - self.start) / 500, 300)
        for index, (name, points) in enumerate(series):
            colour = COLOURS[index % len(COLOURS)]
            placed = [(self.x(at), self.y(value), at) for at, value in points if math.isfinite(value)]
            if path := "".join(_path(placed, gap)):
                yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            if len(series) > 1:
                at = WIDTH - RIGHT - 130 * (len(series) - index)
                yield f'<text x="{at}" y="18" fill="{colour}">{escape(name)}</text>'


def _path(points: Sequence[tuple[float, float, float]], gap: float) -> Iterator[str]:
    """Lines between neighbours; none over a stretch without data."""
    before: float | None = None
    for index, (x, y, moment) in enumerate(points):
        joined = before is not None and moment - before <= gap
        alone = not joined and (index + 1 == len(points) or points[index + 1][2] - moment > gap)
        yield f"{'L' if joined else 'M'}{x:.1f} {y:.1f}" + ("h1" if alone else "")
        before = moment


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers that span the values."""
    span = high - low
    if span <= max(1e-6 * max(abs(low), abs(high)), 1e-12):  # a flat line, give or take the last digits
        span = abs(high) if abs(high) > 1e-12 else 1.0
    rough = span / 5
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _moments(start: float, end: float) -> Iterator[tuple[float, str]]:
    """Whole hours or days, about eight of them."""
    steps = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 5 * 86400, 10 * 86400, 30 * 86400)
    step = next((step for step in steps if (end - start) / step <= 9), steps[-1])
    moment = math.ceil(start / step) * step
    while moment <= end:
        form = "%d %b" if step >= 86400 else "%d %b %H:%M" if moment % 86400 == 0 else "%H:%M"
        yield float(moment), datetime.fromtimestamp(moment, UTC).strftime(form)
        moment += step


def _shown(value: float, unit: str) -> str:
    return f"{value * 100:g} %" if unit == "%" else f"{value:g}{unit}"
