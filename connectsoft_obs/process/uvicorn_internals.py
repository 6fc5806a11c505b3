"""Private names of uvicorn that have no public equivalent.

`tests/health/test_private_names.py` checks each of them on the installed uvicorn version.
"""

from __future__ import annotations

from connectsoft_obs.process.cpython_internals import process_keyword_arguments


def is_reload_worker() -> bool:
    """Whether this process was started by `uvicorn.run(..., reload=True)`, which changes neither argv nor environment."""
    return bool(getattr(process_keyword_arguments().get("config"), "should_reload", False))
