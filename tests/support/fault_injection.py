"""Fault injection: lists the package's functions that a scenario executes, and makes one of them raise.

There is no list of injection points to maintain: a profiler records what a scenario executes, and every function of the
package among that can be replaced. A function is replaced by exchanging its code object for one of the same kind (plain,
coroutine, generator), so that callers that hold a reference to the function get the fault as well.
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
_PLACEHOLDER = "the fault"
_NESTED_CODE = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>")
_GENERATOR_FLAGS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ASYNC_FLAGS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class InjectedFault(Exception):
    """Raised by a function into which a fault was injected."""


def function_label(code: CodeType) -> str:
    """The module path and qualified name of a function: `asgi/instrumentation.py HttpInstrumentation.handle`."""
    return f"{code.co_filename.removeprefix(ROOT + '/')} {code.co_qualname}"


def executed_functions(run: Callable[[], object]) -> list[CodeType]:
    """The package's functions that this thread, and the threads it starts, call; in the order of their first call."""
    called: dict[CodeType, None] = {}

    def profile(frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT) and code.co_name not in _NESTED_CODE:
            called[code] = None

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    functions = _package_functions()
    return [code for code in called.copy() if _functions_containing(code, functions)]  # threads may still add to it


def qualified_names(file: str) -> set[str]:
    """The qualified names of all functions of a module, given its path within the package."""
    path = Path(ROOT) / file
    pending = [compile(path.read_text(), str(path), "exec")]
    names = set()
    while pending:
        code = pending.pop()
        names.add(code.co_qualname)
        pending.extend(constant for constant in code.co_consts if type(constant) is CodeType)
    return names


@contextmanager
def inject_fault(code: CodeType) -> Iterator[None]:
    """Make every function and closure with this code raise InjectedFault while the block runs."""
    originals: list[tuple[FunctionType, CodeType]] = []
    for function in _functions_containing(code, _package_functions()):
        original = function.__code__
        originals.append((function, original))
        function.__code__ = _with_fault(original, code)
    assert originals, function_label(code)
    try:
        yield
    finally:
        for function, original in originals:
            function.__code__ = original


def _package_functions() -> list[FunctionType]:
    return [
        candidate
        for candidate in gc.get_objects()
        if type(candidate) is FunctionType and candidate.__code__.co_filename.startswith(ROOT)
    ]


def _functions_containing(code: CodeType, functions: list[FunctionType]) -> list[FunctionType]:
    """The functions with this code, and those that create functions with it when they run."""
    return [function for function in functions if _contains(function.__code__, code)]


def _contains(outer: CodeType, code: CodeType) -> bool:
    return outer is code or any(
        type(constant) is CodeType and _contains(constant, code) for constant in outer.co_consts
    )


def _with_fault(outer: CodeType, code: CodeType) -> CodeType:
    if outer is code:
        return _raising_code(code)
    constants = tuple(
        _with_fault(constant, code) if type(constant) is CodeType else constant for constant in outer.co_consts
    )
    return outer.replace(co_consts=constants)


def _raising_code(code: CodeType) -> CodeType:
    """Code of the same kind and with the same free variables that raises in its first statement."""
    names = code.co_freevars
    source = "\n".join(
        [
            "def outer():",
            *[f"    {name} = None" for name in names],
            f"    {'async ' if code.co_flags & _ASYNC_FLAGS else ''}def inner(*_args, **_kwargs):",
            f"        raise {_PLACEHOLDER!r}",
            *[f"        {name}" for name in names],
            *(["        yield"] if code.co_flags & _GENERATOR_FLAGS else []),
        ]
    )
    scope: dict[str, Any] = {}
    exec(compile(source, code.co_filename, "exec"), scope)  # noqa: S102  the source is built above
    compiled: CodeType = next(constant for constant in scope["outer"].__code__.co_consts if type(constant) is CodeType)
    constants = tuple(InjectedFault if constant == _PLACEHOLDER else constant for constant in compiled.co_consts)
    return compiled.replace(co_consts=constants, co_name=code.co_name, co_qualname=code.co_qualname)
