"""The page about performance, its chart and its data, from one run."""

from __future__ import annotations

import json
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
    text += _GOALS
    for what, figure, limit, noise in found["goals"]:
        text += f"| {what} | {figure:.2f} | {limit:.2f} | {'held' if figure <= limit + noise else 'missed'} |\n"
    (folder / "performance.md").write_text(text)


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
