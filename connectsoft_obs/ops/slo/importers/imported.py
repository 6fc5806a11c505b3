"""What was found in another tool's file, and PromQL as other tools write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import SLO

_RANGE = re.compile(r"\[\s*(?:\{\{\s*\.window\s*\}\}|\$\{?\w+\}?|\d+[a-z]+)\s*(?=[\]:])")
_SELECTOR = re.compile(r"[a-zA-Z_:][\w:]*(\{[^{}]*\})?")


@dataclass(frozen=True, slots=True)
class ImportedSlo:
    """One promise: of which service, and the tables of the service where our own export says them."""

    service: str
    slo: SLO
    whole: Mapping[str, Any] | None = None


def plain_name(name: str) -> str:
    """A name that ours may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:63] or "slo"


def range_query(query: str, name: str) -> str:
    """A query over one window as one over `{window}`.

    Raises:
        ConfigurationError: it has no window to replace.
    """
    text = " ".join(query.split())
    replaced = _RANGE.sub("[{window}", text)
    if replaced == text:
        raise ConfigurationError(
            f"query {query!r} of {name!r}", "it has no range that could be any window", "Write it with [{{.window}}]."
        )
    return replaced


def rate_query(query: str, name: str) -> str:
    """A counter's query, with or without a sum around it, as a rate over `{window}`."""
    text = " ".join(query.split())
    inner = re.fullmatch(r"sum\s*\((.*)\)", text)
    selector = (inner[1] if inner else text).strip()
    if _SELECTOR.fullmatch(selector):
        return f"sum(rate({selector}[{{window}}]))"
    return range_query(text, name)
