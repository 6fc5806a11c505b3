"""Breaking the package from inside: finds each of its functions that a scenario runs, and makes one of them raise.

No list of seams to keep: what runs is recorded, and every function of it is a seam. A function is broken by giving it
other code, of the same kind (plain, coroutine, generator), so whoever holds a reference to it meets the fault too.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import connectsoft_obs

ROOT = str(Path(connectsoft_obs.__file__).parent)
_MARK = "the fault"
_PARTS = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>")
_GENERATES = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_AWAITED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Sabotage(Exception):
    """What a broken step raises."""


def label(code: CodeType) -> str:
    """The name of a step: `asgi/instrumentation.py Requests._begin`."""
    return f"{code.co_filename.removeprefix(ROOT + '/')} {code.co_qualname}"


def steps(run: Callable[[], object]) -> list[CodeType]:
    """The functions of the package that run in this thread and those it starts, in the order of their first call."""
    found: dict[CodeType, None] = {}

    def see(frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT) and code.co_name not in _PARTS:
            found[code] = None

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    functions = _functions()
    return [code for code in found.copy() if _holders(code, functions)]  # threads may still add to it


def names_in_source(file: str) -> set[str]:
    """Qualified names of all functions of a module of the package, given its path within the package."""
    path = Path(ROOT) / file
    waiting = [compile(path.read_text(), str(path), "exec")]
    names = set()
    while waiting:
        code = waiting.pop()
        names.add(code.co_qualname)
        waiting.extend(one for one in code.co_consts if type(one) is CodeType)
    return names


@contextmanager
def broken(code: CodeType) -> Iterator[None]:
    """Inside, every call of a function, of each object and closure made of it, raises Sabotage."""
    changed: list[tuple[FunctionType, CodeType]] = []
    for function in _holders(code, _functions()):
        before = function.__code__
        changed.append((function, before))
        function.__code__ = _with_fault(before, code)
    assert changed, label(code)
    try:
        yield
    finally:
        for function, before in changed:
            function.__code__ = before


def _functions() -> list[FunctionType]:
    return [
        found
        for found in gc.get_objects()
        if type(found) is FunctionType and found.__code__.co_filename.startswith(ROOT)
    ]


def _holders(code: CodeType, functions: list[FunctionType]) -> list[FunctionType]:
    """The functions that are of this code, and those that make functions of it when they run."""
    return [function for function in functions if _contains(function.__code__, code)]


def _contains(outer: CodeType, code: CodeType) -> bool:
    return outer is code or any(type(one) is CodeType and _contains(one, code) for one in outer.co_consts)


def _with_fault(outer: CodeType, code: CodeType) -> CodeType:
    if outer is code:
        return _raising(code)
    constants = tuple(_with_fault(one, code) if type(one) is CodeType else one for one in outer.co_consts)
    return outer.replace(co_consts=constants)


def _raising(code: CodeType) -> CodeType:
    """Code of the same kind and with the same free variables that raises at its first step."""
    names = code.co_freevars
    source = "\n".join(
        [
            "def outer():",
            *[f"    {name} = None" for name in names],
            f"    {'async ' if code.co_flags & _AWAITED else ''}def step(*_args, **_named):",
            f"        raise {_MARK!r}",
            *[f"        {name}" for name in names],
            *(["        yield"] if code.co_flags & _GENERATES else []),
        ]
    )
    scope: dict[str, Any] = {}
    exec(compile(source, code.co_filename, "exec"), scope)  # noqa: S102  the source is the one above
    made: CodeType = next(one for one in scope["outer"].__code__.co_consts if type(one) is CodeType)
    constants = tuple(Sabotage if one == _MARK else one for one in made.co_consts)
    return made.replace(co_consts=constants, co_name=code.co_name, co_qualname=code.co_qualname)
