"""The record of what an import leaves out, and the selection of labels and annotations that alerts can have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from connectsoft_obs.vocabulary import RESERVED_ALERT_LABELS

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Omissions:
    """Records what an import leaves out, as messages for the user."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, subject: str, text: str) -> None:
        """Record one thing that the import of an SLO leaves out, and why."""
        self.texts.append(f"{subject}: {text}")

    def unknown_keys(self, subject: str, table: Mapping[str, Any], keys: Iterable[str]) -> None:
        """Record the keys of a table that the importer does not read."""
        for key in table:
            if key not in keys:
                self.add(subject, f"{key} is not imported")

    def labels(self, subject: str, kind: str, texts: Any) -> dict[str, str]:
        """Return the labels that alerts can have, and record the others."""
        kept = {}
        for name, value in (texts or {}).items():
            if name in RESERVED_ALERT_LABELS:
                self.add(subject, f"the {kind} {name}={value!r} is not imported: the generated rules set {name}")
            elif not _LABEL_NAME.fullmatch(name) or isinstance(value, list | dict):
                self.add(subject, f"the {kind} {name}={value!r} is not imported: Prometheus has no such label")
            else:
                kept[name] = _text(value)
        return kept

    def annotations(self, subject: str, texts: Any) -> dict[str, str]:
        """Return the annotations that alerts can have, and record the others."""
        kept = {}
        for name, value in (texts or {}).items():
            if _LABEL_NAME.fullmatch(name) and not isinstance(value, list | dict):
                kept[name] = _text(value)
            else:
                self.add(subject, f"the annotation {name} is not imported: alerts cannot have this name or value")
        return kept


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
