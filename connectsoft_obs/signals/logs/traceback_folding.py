"""Shortens stack traces for people: frames of libraries between those of the application become one row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

_FRAME: Final = re.compile(r'(?P<margin>[ |+-]*)File "(?P<path>[^"]*)", (?P<rest>line \d+, in .*)')
_PACKAGES: Final = re.compile(r".*[/\\](?:site|dist)-packages[/\\]")
_STANDARD_LIBRARY: Final = str(Path(os.__file__).parent) + os.sep
_OWN_PARENT: Final = str(Path(__file__).parents[3]) + os.sep
_OWN_PACKAGE: Final = _OWN_PARENT + "connectsoft_obs" + os.sep
_FROZEN: Final = "<frozen "
_MAX_NAMES = 4


class Row(NamedTuple):
    """A row of a shortened stack trace.

    Args:
        text: the row, without a newline.
        is_library: whether it is about code outside the application.
        is_location: whether it is the path, line number and function of a frame.
    """

    text: str
    is_library: bool = False
    is_location: bool = False


class _Frame(NamedTuple):
    margin: str
    library: str  # "" for a frame of the application
    rows: list[str]


def fold_frames(stack: str, directory: str = "", fold: bool = True) -> list[Row]:
    """The rows of a stack trace as Python formats it.

    Frames of the application are complete, with paths relative to `directory` if they are below it. Of other frames only
    the last of each traceback remains, where the exception was raised; the others become one row with their number and
    the names of their packages. A traceback without frames of the application is complete.
    """
    rows: list[Row] = []
    frames: list[_Frame] = []
    for line in [*stack.rstrip().splitlines(), ""]:
        match = _FRAME.fullmatch(line)
        if match is not None:
            path, library = _shorten(match["path"], directory)
            frames.append(_Frame(match["margin"], library, [f'{match["margin"]}File "{path}", {match["rest"]}']))
        elif frames and line.startswith((frames[-1].margin + "  ", frames[-1].margin + "[Previous line repeated")):
            frames[-1].rows.append(line)
        else:
            rows += _folded(frames) if fold else _complete(frames)
            frames = []
            rows.append(Row(line))
    return rows[:-1]


def _folded(frames: list[_Frame]) -> Iterator[Row]:
    """Rows of the frames of one traceback."""
    if all(frame.library for frame in frames):
        yield from _complete(frames)
        return
    for is_library, group in groupby(frames[:-1], lambda frame: bool(frame.library)):
        if not is_library:
            yield from _complete(list(group))
            continue
        folded = list(group)
        names = list(dict.fromkeys(frame.library for frame in folded))
        names = names if len(names) <= _MAX_NAMES else [*names[:_MAX_NAMES], "…"]
        noun = "frame" if len(folded) == 1 else "frames"
        yield Row(f"{folded[0].margin}… {len(folded)} {noun} of {', '.join(names)}", is_library=True)
    yield from _complete(frames[-1:])


def _complete(frames: list[_Frame]) -> Iterator[Row]:
    for frame in frames:
        for number, row in enumerate(frame.rows):
            yield Row(row, bool(frame.library), is_location=not number)


def _shorten(path: str, directory: str) -> tuple[str, str]:
    """The path to show, and the name of the package of a library; "" for the application."""
    library_path = _PACKAGES.sub("", path, count=1)
    library_path = library_path if library_path != path else path.removeprefix(_STANDARD_LIBRARY)
    if library_path != path:
        return library_path, re.split(r"[/\\]", library_path, maxsplit=1)[0].removesuffix(".py")
    if path.startswith(_OWN_PACKAGE):
        return path.removeprefix(_OWN_PARENT), "connectsoft_obs"
    if path.startswith(_FROZEN):
        return path, path.removeprefix(_FROZEN).rstrip(">").partition(".")[0]
    return path.removeprefix(directory + os.sep) if directory else path, ""
