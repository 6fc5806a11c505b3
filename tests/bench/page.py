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

This page is written by `python tests/bench/run.py --write docs/explanation` and is never edited. Its parts ran from
{first} to {last}, on two shared cores: {versions}.
"""

_CHART = """
![Processor time that one request costs more than on the bare route](performance.png)
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

_OPEN_LOOP = """
## On a server that is not busy

800 requests a second, each at its time whatever becomes of those before, on a server that has a core to itself. Times
count from when a request was due, so what holds up the server is charged for all that had to wait.

| variant | p50 | p99 | p99.9 | spread of p99 |
| --- | ---: | ---: | ---: | --- |
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

![Cost against size, one line each](performance-scaling.png)

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

_WORK = """
## A job

Processor time that a decorator adds to a call of an empty function, in multiples of what autometrics charges for metrics
alone.

| variant | async | sync |
| --- | ---: | ---: |
"""

_MEMORY = """
## Memory

Resident after {ours_requests:,.0f} requests: {ours_end:.1f} MiB, the bare application {bare_end:.1f}; after half of them
{ours_half:.1f}.
"""

_GOALS = """
## Goals

| goal | figure | limit | |
| --- | ---: | ---: | --- |
"""


def write(folder: Path, found: dict[str, Any]) -> None:
    """Keep a run as `performance.json`, `performance.md` and its pictures."""
    from chart import bars, sizes  # a page needs matplotlib, a comparison does not

    (folder / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    shown = [(name, row) for name, row in _present(found["in process"]) if VARIANTS[name][2] != name]
    title = "Processor time that a request costs more than on the bare route, in multiples of that"
    bars(folder / "performance.png", title, [(name, row["process"]["added"]) for name, row in shown])
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    times = sorted(found["when"].values())
    text = _INTRODUCTION.format(first=times[0], last=times[-1], versions=versions) + _CHART + _IN_PROCESS
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
    text += _OPEN_LOOP
    for name, row in found["open loop"].items():
        low, high = row["p99"]["spread"]
        cells = [f"{row[one]['ms']:.2f} ms, {row[one]['ratio']:.2f}x" for one in ("p50", "p99", "p99.9")]
        text += f"| {name} | {' | '.join(cells)} | {low:.2f} to {high:.2f} |\n"
    text += _COUNTED
    bare = found["instructions"]["bare"]
    for name, count in found["instructions"].items():
        text += f"| {name} | {count / 1000:.0f} | {(count - bare) / bare:.2f}x |\n"
    text += _SCALING
    for kind, figures in found["scaling"].items():
        cells = [f"{int(size):,}: {cost:.2f}x" for size, cost in figures.items()]
        text += "| " + " | ".join([kind, *cells, *[""] * (4 - len(cells))]) + " |\n"
    title = "What observing adds, in multiples of what it adds at the smallest size"
    sizes(folder / "performance-scaling.png", title, found["scaling"])
    text += _STALL
    for name, (median, high) in found["stall"].items():
        text += f"| {name} | {median:.2f} | {high:.2f} |\n"
    text += _WORK
    for name, row in found["job"].items():
        text += f"| {name} | {row['async ratio']:.2f}x | {row['sync ratio']:.2f}x |\n"
    text += _MEMORY.format(
        **{f"{name}_{mark}": value for name, row in found["memory"].items() for mark, value in row.items()}
    )
    text += _GOALS
    for what, figure, limit, noise in found["goals"]:
        text += f"| {what} | {figure:.2f} | {limit:.2f} | {'held' if figure <= limit + noise else 'missed'} |\n"
    (folder / "performance.md").write_text(text)


def _present(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, rows[name]) for name in VARIANTS if name in rows and "missing" not in rows[name]]
