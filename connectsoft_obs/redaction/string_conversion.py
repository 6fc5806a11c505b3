"""String conversion that never raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def safe_str(value: Any, convert: Callable[[Any], str] = repr) -> str:
    """Text of any object, `<unprintable Type>` if its own conversion raises.

    Args:
        value: the object.
        convert: `repr` by default, or `str`, or another conversion.
    """
    try:
        return str(convert(value))
    except Exception:  # noqa: BLE001  a __str__ or __repr__ of the application can raise anything
        return f"<unprintable {type(value).__name__}>"
