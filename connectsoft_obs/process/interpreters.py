"""Detects sub-interpreters (PEP 684, PEP 734)."""

from __future__ import annotations

from importlib import import_module


def is_main_interpreter() -> bool:
    """Whether this code runs in the main interpreter of the process; True where that cannot be determined."""
    for module in ("_interpreters", "_xxsubinterpreters"):  # Python 3.13 and later, then 3.11 and 3.12
        try:
            interpreters = import_module(module)
        except ImportError:
            continue
        return bool(_interpreter_id(interpreters.get_current()) == _interpreter_id(interpreters.get_main()))
    return True


def _interpreter_id(interpreter: object) -> object:
    """The id of an interpreter; Python 3.13 returns a pair that begins with it."""
    return interpreter[0] if isinstance(interpreter, tuple) else interpreter
