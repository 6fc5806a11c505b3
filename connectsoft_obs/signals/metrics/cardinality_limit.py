"""Cardinality limit: bounds the number of series of a metric family and the length of label values."""

from __future__ import annotations

from collections.abc import Container, Sized
from typing import Protocol

from connectsoft_obs.vocabulary import CLOSED_LABELS, ERROR_TYPE, ErrorType, Metric

MAX_ERROR_TYPES = 50
"""Maximum number of `error.type` values per family; further values become `_OTHER`."""

MAX_LABEL_VALUE_LENGTH = 1000
"""Maximum length of a label value in characters; longer values are truncated."""

Labels = tuple[str, ...]


class ExistingSeries(Container[Labels], Sized, Protocol):
    """Label values of the series that a family already has."""


class CardinalityLimiter:
    """Admits new series of one family.

    Beyond `limit` series, labels with unbounded values (routes, destinations, labels of the application) are set to the
    empty string. Labels with a fixed set of values keep them, so that totals by method, status or error stay correct.
    Beyond twice the limit, all labels are set to the empty string.
    """

    def __init__(self, metric: Metric, limit: int) -> None:
        self._limit = limit
        self._unbounded = tuple(index for index, label in enumerate(metric.labels) if label not in CLOSED_LABELS)
        self._error_type_index = metric.labels.index(ERROR_TYPE) if ERROR_TYPE in metric.labels else None
        self._error_types: set[str] = set()

    def admit(self, labels: Labels, existing: ExistingSeries) -> tuple[Labels, bool]:
        """Return the label values to use for a measurement, and whether the limit is exceeded."""
        labels = self._limit_error_types(labels)
        if labels in existing or len(existing) < self._limit:
            return labels, False
        overflow = tuple("" if index in self._unbounded else value for index, value in enumerate(labels))
        if overflow not in existing and len(existing) >= self._limit * 2:
            overflow = ("",) * len(labels)
        return overflow, True

    def _limit_error_types(self, labels: Labels) -> Labels:
        index = self._error_type_index
        if index is None or not (error_type := labels[index]) or error_type in self._error_types:
            return labels
        if len(self._error_types) < MAX_ERROR_TYPES:
            self._error_types.add(error_type)
            return labels
        return (*labels[:index], ErrorType.OTHER.value, *labels[index + 1 :])


def sanitize_label_value(value: str) -> str:
    """Return a label value that all formats can represent: truncated, without lone surrogates and NUL characters."""
    text = value if type(value) is str else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "?")[:MAX_LABEL_VALUE_LENGTH]
