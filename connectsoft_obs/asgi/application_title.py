"""The title of a FastAPI application, the name of a service for which no name is configured."""

from __future__ import annotations

from typing import Any

_DEFAULT_TITLE = "FastAPI"
_MAX_LENGTH = 255
_MAX_DEPTH = 20


def application_title(application: Any) -> str:
    """Return the title of a FastAPI application, also inside of middlewares; "" for the default title."""
    for _ in range(_MAX_DEPTH):
        if application is None:
            break
        if any(base.__module__.partition(".")[0] == "fastapi" for base in type(application).__mro__):
            title = getattr(application, "title", None)
            if isinstance(title, str):
                title = title.strip()
                return "" if title == _DEFAULT_TITLE else title[:_MAX_LENGTH]
        application = getattr(application, "app", None)
    return ""
