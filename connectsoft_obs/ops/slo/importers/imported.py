"""The result of an import, and the conversion of names and PromQL queries from other tools."""

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
    """One SLO from a file.

    Args:
        service: name of its service; empty when the file does not name one.
        slo: the SLO.
        service_tables: the settings of the service, when this package exported the file; else None.
    """

    service: str
    slo: SLO
    service_tables: Mapping[str, Any] | None = None


def sanitize_name(name: str) -> str:
    """Return a name with only the characters that SLO and service names may have, at most 63 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:63] or "slo"


def range_query(query: str, name: str) -> str:
    """Replace the range of a query by the placeholder `[{window}]`.

    Args:
        query: PromQL with a range, such as `[5m]` or `[{{.window}}]`.
        name: the SLO, for the error.

    Raises:
        ConfigurationError: the query has no range.
    """
    text = " ".join(query.split())
    converted = _RANGE.sub("[{window}", text)
    if converted == text:
        raise ConfigurationError(
            f"query {query!r} of {name!r}",
            "it has no range, so it cannot be evaluated over several windows",
            "Write it with [{{.window}}].",
        )
    return converted


def rate_query(query: str, name: str) -> str:
    """Convert the query of a counter, with or without `sum`, to its rate over `[{window}]`.

    Raises:
        ConfigurationError: the query is neither a selector nor has a range.
    """
    text = " ".join(query.split())
    sum_match = re.fullmatch(r"sum\s*\((.*)\)", text)
    selector = (sum_match[1] if sum_match else text).strip()
    if _SELECTOR.fullmatch(selector):
        return f"sum(rate({selector}[{{window}}]))"
    return range_query(text, name)
