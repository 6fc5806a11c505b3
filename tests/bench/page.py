"""The page about performance, its chart and its data, from one run."""

from __future__ import annotations

import json
from math import log10
from pathlib import Path
from typing import Any

from variants import VARIANTS

_INTRODUCTION = """# Performance

What observing costs, measured beside the bare application and beside what else is used. Every figure is a ratio within
one run: the variants take turns, in a new order each round, on the same machine. Nothing here says how fast your
machine is.

This page is written by `python tests/bench/run.py --write docs/explanation` and is never edited. Run of {when}:
{versions}.
"""

_CHART = """
![Processor time that one request costs more than on the bare route](performance.svg)
"""

_IN_PROCESS = """
## In process

A Starlette route that answers a small JSON object, driven without a server. *Loop* is the event loop's thread, *all*
includes exporters and writers. Signals: M metrics, T traces, L access line, R request id.

| variant | signals | added, loop | added, all | spread |
| --- | --- | ---: | ---: | --- |
"""

_SERVER = """
## On a real server

uvicorn with uvloop and httptools, saturated by wrk with 64 connections; logs go to a pipe that is read, exports to a
collector.

| variant | requests/s, of bare | spread |
| --- | ---: | --- |
"""

_COUNTED = """
## Instructions

By callgrind, which counts the same on any machine that is not changed in between; background threads included.

| variant | thousand a request | over bare |
| --- | ---: | ---: |
"""

_SCALING = """
## What grows

CPU time that observing adds, in multiples of what it adds at the smallest size. A chunk and a message are a small part
of a request, so their figures fall.

![Cost against size, one line each](performance-scaling.svg)

| what grows | | | | |
| --- | --- | --- | --- | --- |
"""

_STALL = """
## What an export holds up

The slowest request of each quarter of a second at full load, in milliseconds. What the machine, the garbage collection
and the interpreter's lock do to the bare application is in every row.

| variant | median | p95 |
| --- | ---: | ---: |
"""

_GOALS = """
## Goals

| goal | figure | limit | |
| --- | ---: | ---: | --- |
"""


def write(folder: Path, found: dict[str, Any]) -> None:
    """Keep a run as `performance.json`, `performance.svg` and `performance.md`."""
    (folder / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "performance.svg").write_text(_chart(found["in process"]))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    text = _INTRODUCTION.format(when=found["when"], versions=versions) + _CHART + _IN_PROCESS
    for name, row in _present(found["in process"]):
        low, high = row["process"]["spread"]
        text += (
            f"| {name} | {VARIANTS[name][1]} | {row['loop']['added']:.2f}x | {row['process']['added']:.2f}x "
            f"| {low:.2f} to {high:.2f} |\n"
        )
    text += _SERVER
    for name, row in _present(found["server"]):
        low, high = row["spread"]
        text += f"| {name} | {row['ratio']:.2f}x | {low:.2f} to {high:.2f} |\n"
    text += _COUNTED
    bare = found["instructions"]["bare"]
    for name, count in found["instructions"].items():
        text += f"| {name} | {count / 1000:.0f} | {(count - bare) / bare:.2f}x |\n"
    text += _SCALING
    for kind, figures in found["scaling"].items():
        cells = [f"{int(size):,}: {cost:.2f}x" for size, cost in figures.items()]
        text += "| " + " | ".join([kind, *cells, *[""] * (4 - len(cells))]) + " |\n"
    (folder / "performance-scaling.svg").write_text(_lines(found["scaling"]))
    text += _STALL
    for name, (median, high) in found["stall"].items():
        text += f"| {name} | {median:.2f} | {high:.2f} |\n"
    text += _GOALS
    for what, figure, limit, noise in found["goals"]:
        text += f"| {what} | {figure:.2f} | {limit:.2f} | {'held' if figure <= limit + noise else 'missed'} |\n"
    (folder / "performance.md").write_text(text)


def _lines(rows: dict[str, dict[str, float]]) -> str:
    """Lines over sizes from 1 to 20,000, a decade every 120 pixels, as SVG."""
    colours = ("#2563eb", "#16a34a", "#d97706", "#9333ea", "#dc2626")
    parts = ['<path d="M60 20V260H600" fill="none" stroke="#9ca3af"/>']
    parts += [f'<text x="{60 + 120 * n}" y="278" text-anchor="middle">{10**n:,}</text>' for n in range(5)]
    for times in (0, 1, 2):
        parts.append(f'<text x="50" y="{264 - 120 * times}" text-anchor="end">{times}x</text>')
        parts.append(f'<path d="M60 {260 - 120 * times}H600" stroke="#e5e7eb"/>')
    for number, (kind, figures) in enumerate(rows.items()):
        points = " ".join(
            f"{60 + 120 * log10(int(size)):.0f},{260 - 120 * min(max(cost, 0), 2):.0f}"
            for size, cost in figures.items()
        )
        colour = colours[number % len(colours)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="70" y="{300 + 16 * number}" fill="{colour}">{kind}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 390" font-family="system-ui,sans-serif" '
        f'font-size="12" fill="#374151"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _present(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, rows[name]) for name in VARIANTS if name in rows and "missing" not in rows[name]]


def _chart(rows: dict[str, dict[str, Any]]) -> str:
    """Bars, one a variant, as SVG."""
    shown = [(name, row["process"]["added"]) for name, row in _present(rows) if VARIANTS[name][2] != name]
    widest = max(added for _, added in shown)
    height = 24 * len(shown) + 16
    bars = []
    for number, (name, added) in enumerate(shown):
        top, width = 8 + 24 * number, max(added, 0.0) / widest * 440
        colour = "#2563eb" if name.startswith("ours") else "#9ca3af"
        bars.append(
            f'<text x="190" y="{top + 15}" text-anchor="end">{name}</text>'
            f'<rect x="200" y="{top + 3}" width="{width:.1f}" height="16" fill="{colour}"/>'
            f'<text x="{206 + width:.1f}" y="{top + 15}">{added:.2f}x</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="system-ui,sans-serif" '
        f'font-size="12" fill="#374151"><rect width="100%" height="100%" fill="#fff"/>{"".join(bars)}</svg>\n'
    )
