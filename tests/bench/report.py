"""The page about performance, its chart and its data, from one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from latency import QUANTILES
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

_WORKERS = """
The same with more workers (`uvicorn --workers`) on these two cores, one of which loads them:

| workers | requests/s, of bare |
| --- | ---: |
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

_PYTHONS = """
The same on other Pythons, all four signals exported:

| Python | bare, thousand | ours, thousand more | over bare |
| --- | ---: | ---: | ---: |
"""

_SCALING = """
## What grows

CPU time that observing adds, in multiples of what it adds at the smallest size. A chunk and a message are a small part
of a request, so their figures fall.

![Cost against size, one line each](performance-scaling.png)

| what grows | | | | |
| --- | --- | --- | --- | --- |
"""

_PIECES = """
What one of many chunks or messages costs more than it costs the bare application:

| | ours | contrib ASGI, traces, not exported |
| --- | ---: | ---: |
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

_INSIDE = """
## Within a request

Processor time of what an application itself says, in multiples of ours (the first row of each).

| what | by | cost |
| --- | --- | ---: |
"""

_MEMORY = """
## Memory

Resident after {ours_requests:,.0f} requests: {ours_end:.1f} MiB, the bare application {bare_end:.1f}; after half of them
{ours_half:.1f}.
"""

_GOALS = """
## Goals

| goal | figure | limit | noise | |
| --- | ---: | ---: | ---: | --- |
"""


def write(folder: Path, found: dict[str, Any], verdict: Callable[[float, float, float], str]) -> None:
    """Keep a run as `performance.json`, `performance.md` and its pictures; `verdict` says what became of a goal."""
    from charts import bars, sizes  # a page needs matplotlib, a comparison does not

    (folder / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    shown = [(name, row) for name, row in _present(found["in process"]) if VARIANTS[name][2] != name]
    title = "Processor time that a request costs more than on the bare route, in multiples of that"
    bars(folder / "performance.png", title, [(name, row["process"]["added"]) for name, row in shown])
    title = "What observing adds, in multiples of what it adds at the smallest size"
    sizes(folder / "performance-scaling.png", title, found["scaling"])
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    times = sorted(found["when"].values())
    text = _INTRODUCTION.format(first=times[0], last=times[-1], versions=versions) + _CHART
    text += _requests(found) + _grown(found) + _elsewhere(found)
    goals = ([what, *_plain(*figures), verdict(*figures)] for what, *figures in found["goals"])
    (folder / "performance.md").write_text(text + _table(_GOALS, goals))


def _requests(found: dict[str, Any]) -> str:
    counted, bare = found["instructions"], found["instructions"]["bare"]
    in_process = (
        [name, VARIANTS[name][1], *_times(row["loop"]["added"], row["process"]["added"]), _between(row["process"])]
        for name, row in _present(found["in process"])
    )
    open_loop = (
        [name, *(f"{row[one]['ms']:.2f} ms, {row[one]['ratio']:.2f}x" for one in QUANTILES), _between(row["p99"])]
        for name, row in found["open loop"].items()
    )
    pythons = (
        [version, _thousand(row["bare"]), _thousand(row["ours"] - row["bare"]), *_times(row["ours"] / row["bare"] - 1)]
        for version, row in found["pythons"].items()
    )
    return (
        _table(_IN_PROCESS, in_process)
        + _table(_SERVER, ([name, *_times(row["ratio"]), _between(row)] for name, row in _present(found["server"])))
        + _table(_WORKERS, ([count, *_times(ratio)] for count, ratio in found["workers"].items()))
        + _table(_OPEN_LOOP, open_loop)
        + _table(_COUNTED, ([name, _thousand(count), *_times(count / bare - 1)] for name, count in counted.items()))
        + _table(_PYTHONS, pythons)
    )


def _grown(found: dict[str, Any]) -> str:
    scaling = (
        [kind, *(f"{int(size):,}: {cost:.2f}x" for size, cost in figures.items()), *[""] * (4 - len(figures))]
        for kind, figures in found["scaling"].items()
    )
    return (
        _table(_SCALING, scaling)
        + _table(_PIECES, ([kind, *_times(*shares.values())] for kind, shares in found["pieces"].items()))
        + _table(_STALL, ([name, *_plain(*figures)] for name, figures in found["stall"].items()))
    )


def _elsewhere(found: dict[str, Any]) -> str:
    work = ([name, *_times(row["async ratio"], row["sync ratio"])] for name, row in found["job"].items())
    inside = ([kind, name, *_times(ratio)] for kind, row in found["inside"].items() for name, ratio in row.items())
    held = {f"{name}_{mark}": value for name, row in found["memory"].items() for mark, value in row.items()}
    return _table(_WORK, work) + _table(_INSIDE, inside) + _MEMORY.format(**held)


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _times(*ratios: float) -> list[str]:
    return [f"{ratio:.2f}x" for ratio in ratios]


def _plain(*figures: float) -> list[str]:
    return [f"{figure:.2f}" for figure in figures]


def _thousand(count: float) -> str:
    return f"{count / 1000:.0f}"


def _between(row: dict[str, Any]) -> str:
    low, high = row["spread"]
    return f"{low:.2f} to {high:.2f}"


def _present(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, rows[name]) for name in VARIANTS if name in rows and "missing" not in rows[name]]
