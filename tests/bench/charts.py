"""Charts of benchmark results, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_OWN_COLOUR, _OTHER_COLOUR = "#2563eb", "#9ca3af"
_WIDTH, _DPI = 8.0, 120
_COLOURS = ("#2563eb", "#16a34a", "#d97706", "#9333ea", "#dc2626")


def bars(path: Path, title: str, rows: Sequence[tuple[str, float]], unit: str = "x") -> None:
    """Draw one bar per row, the first on top; rows of this package have a colour of their own."""
    figure, axes = pyplot.subplots(figsize=(_WIDTH, 0.28 * len(rows) + 0.9), layout="constrained")
    names, values = [name for name, _ in rows], [value for _, value in rows]
    bar_container = axes.barh(
        names, values, color=[_OWN_COLOUR if name.startswith("connectsoft-obs") else _OTHER_COLOUR for name in names]
    )
    axes.bar_label(bar_container, labels=[f"{value:.2f}{unit}" for value in values], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_title(title, loc="left", fontsize=10)
    _finish(figure, axes, path)


def sizes(path: Path, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one line per row over sizes from 1 to 20,000, with a logarithmic x axis."""
    figure, axes = pyplot.subplots(figsize=(_WIDTH, 4.2), layout="constrained")
    for (name, figures), colour in zip(rows.items(), _COLOURS, strict=False):
        axes.plot([int(size) for size in figures], list(figures.values()), "o-", label=name, color=colour)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#e5e7eb")
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(title, loc="left", fontsize=10)
    _finish(figure, axes, path)


def panels(path: Path, rows: Sequence[tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]]) -> None:
    """Draw panels below each other with a common time axis; a row is a title, a unit and lines of (second, value)."""
    figure, all_axes = pyplot.subplots(
        len(rows), 1, figsize=(_WIDTH, 2.2 * len(rows)), sharex=True, layout="constrained"
    )
    for axes, (title, unit, lines) in zip(all_axes, rows, strict=True):
        for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
            axes.plot(
                [second for second, _ in points], [value for _, value in points], label=name, color=colour, linewidth=1
            )
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel(unit, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#e5e7eb")
        axes.legend(fontsize=8, frameon=False, loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    all_axes[-1].set_xlabel("seconds", fontsize=8)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
