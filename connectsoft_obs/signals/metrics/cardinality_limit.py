"""The cardinality firewall: which label values a family keeps as they are, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Container, Sized
from typing import Protocol

from connectsoft_obs.vocabulary import CLOSED_LABELS, ERROR_TYPE, ErrorType, Metric

ERROR_TYPES = 50
"""Values of `error.type` a family keeps; further ones are `_OTHER`."""

LONGEST = 1000
"""Characters of a label value; what is beyond them is cut off."""

Labels = tuple[str, ...]


class KnownValues(Container[Labels], Sized, Protocol):
    """The label values there are already."""


class CardinalityLimiter:
    """Admits new series of one family.

    Beyond `limit` series the open labels (routes, destinations, labels of users) are blank and the closed ones stay, so
    that totals by method, status or error stay right. Should even those vary beyond another `limit`, all are blank.
    """

    def __init__(self, metric: Metric, limit: int) -> None:
        self._limit = limit
        self._open = tuple(index for index, label in enumerate(metric.labels) if label not in CLOSED_LABELS)
        self._error = metric.labels.index(ERROR_TYPE) if ERROR_TYPE in metric.labels else None
        self._errors: set[str] = set()

    def admit(self, labels: Labels, known: KnownValues) -> tuple[Labels, bool]:
        """The labels a measurement is kept under, and whether it is beyond the limit."""
        labels = self._bounded(labels)
        if labels in known or len(known) < self._limit:
            return labels, False
        blank = tuple("" if index in self._open else value for index, value in enumerate(labels))
        if blank not in known and len(known) >= self._limit * 2:
            blank = ("",) * len(labels)
        return blank, True

    def _bounded(self, labels: Labels) -> Labels:
        if self._error is None or not (word := labels[self._error]) or word in self._errors:
            return labels
        if len(self._errors) < ERROR_TYPES:
            self._errors.add(word)
            return labels
        return (*labels[: self._error], ErrorType.OTHER.value, *labels[self._error + 1 :])


def clean(value: str) -> str:
    """A label value that every page and file can hold: text of bounded length, without lone surrogates and NUL."""
    text = value if type(value) is str else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "?")[:LONGEST]
