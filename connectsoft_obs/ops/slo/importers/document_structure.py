"""Validation of the structure of a document from another tool, so that an importer reads only values of the right type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from connectsoft_obs.errors import ConfigurationError


class Scalar(Enum):
    """The type of a single value. The member's value is its name in error messages."""

    NUMBER = "a number"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Required:
    """A value that must be present, and not empty if it is a list or a table."""

    structure: Structure


Structure: TypeAlias = "Scalar | Required | Mapping[str, Structure] | Sequence[Structure]"
"""Expected types: a table with the structure of some of its keys, or a list with the structure of its items.

Keys that a table does not name, and items of an empty list, can have any type. Each value can be absent unless it is
`Required`.
"""

ANY_TABLE: Structure = {}
METADATA: Structure = {"metadata": {"labels": ANY_TABLE, "annotations": ANY_TABLE}}
"""The metadata of a Kubernetes resource."""


def document_name(document: Mapping[str, Any]) -> str:
    """Return the name of a document for error messages, or its service if it has no name."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return repr(name or document.get("service") or "without a name")


def validate_structure(value: Any, structure: Structure, document: str, path: str = "") -> None:
    """Validate the types in a document.

    Args:
        value: the document, or a part of it.
        structure: its expected structure.
        document: name of the document, for error messages.
        path: path of the part in the document, such as `spec.objectives[0]`.

    Raises:
        ConfigurationError: a value has another type, a required value is missing, or the key of a table is not text.
    """
    if isinstance(structure, Required):
        if value is None or value in ([], {}):
            raise ConfigurationError(f"{path} of {document}", "it is missing or empty", f"Add {path}.")
        validate_structure(value, structure.structure, document, path)
        return
    if value is None:
        return
    if isinstance(structure, Scalar):
        if not (_is_number(value) if structure is Scalar.NUMBER else isinstance(value, str)):
            raise _type_error(value, document, path, structure.value)
    elif isinstance(structure, Mapping):
        _validate_table(value, structure, document, path)
    else:
        _validate_list(value, structure, document, path)


def _validate_table(table: Any, structure: Mapping[str, Structure], document: str, path: str) -> None:
    if not isinstance(table, Mapping):
        raise _type_error(table, document, path, "a table")
    for key in table:
        if not isinstance(key, str):
            raise _type_error(key, document, f"a key of {path}" if path else "a key", Scalar.TEXT.value)
    for key, part in structure.items():
        validate_structure(table.get(key), part, document, f"{path}.{key}" if path else key)


def _validate_list(items: Any, structure: Sequence[Structure], document: str, path: str) -> None:
    if not isinstance(items, list):
        raise _type_error(items, document, path, "a list")
    for number, item in enumerate(items):
        for part in structure:
            validate_structure(item, Required(part), document, f"{path}[{number}]")


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, also one in quotes."""
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _type_error(value: Any, document: str, path: str, expected: str) -> ConfigurationError:
    subject = f"{path} = {value!r}" if path else repr(value)
    return ConfigurationError(f"{subject} of {document}", f"it is not {expected}", f"Use {expected}.")
