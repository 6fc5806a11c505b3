"""The result of an import, and the conversion of names and PromQL queries from other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import SLO

_RANGE = re.compile(r"\[\s*(?:\{\{\s*\.window\s*\}\}|\$\{?\w+\}?|\d+[a-z]+)\s*(?=[\]:])")
_STRINGS = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""")
_METRICSQL = re.compile(
    r"\b(?:WITH\s*\(|keep_metric_names\b|(?:default|if|ifnot)\s+[\w(]|(?:"
    r"rollup\w*|running_\w+|range_\w+|label_(?:set|del|keep|map|copy|move|transform|value|match|mismatch|uppercase|lowercase)"
    r"|\w+_eq_over_time|\w+_ne_over_time|\w+_le_over_time|\w+_gt_over_time|(?:median|mode|share|tmin|tmax|tfirst|tlast"
    r"|zscore|distinct|sum2|range|geomean|histogram|count_values|ascent|descent|integrate|duration)_over_time"
    r"|increase_pure|increase_prometheus|rate_over_sum|rate_prometheus|delta_prometheus|deriv_fast|ideriv|lag|lifetime"
    r"|scrape_interval|hoeffding_bound_(?:upper|lower)|aggr_over_time|interpolate|keep_last_value|keep_next_value"
    r"|remove_resets|smooth_exponential|union|alias|drop_common_labels|buckets_limit|prometheus_buckets|vmrange_\w+"
    r"|histogram_(?:share|avg_over_time)|any|distinct|median|sum2|geomean|mode|outliersk|outliers_iqr|mad|zscore"
    r"|topk_(?:min|max|avg|median|last)|bottomk_(?:min|max|avg|median|last)|now|ru|ttf|rand\w*"
    r")\s*\()"
)
"""Functions, aggregations and keywords of MetricsQL that PromQL does not have."""
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
        ConfigurationError: the query has no range, or is not PromQL.
    """
    text = _promql(query, name)
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
        ConfigurationError: the query is neither a selector nor has a range, or is not PromQL.
    """
    text = _promql(query, name)
    sum_match = re.fullmatch(r"sum\s*\((.*)\)", text)
    selector = (sum_match[1] if sum_match else text).strip()
    if _SELECTOR.fullmatch(selector):
        return f"sum(rate({selector}[{{window}}]))"
    return range_query(text, name)


def _promql(query: str, name: str) -> str:
    """Return a query as one line; reject the functions and keywords that only MetricsQL of VictoriaMetrics has."""
    text = " ".join(str(query).split())
    if match := _METRICSQL.search(_STRINGS.sub('""', text)):
        raise ConfigurationError(
            f"query {query!r} of {name!r}",
            f"{match[0].rstrip('( ')} is MetricsQL, which Prometheus does not evaluate",
            "Write the query in PromQL.",
        )
    return text
