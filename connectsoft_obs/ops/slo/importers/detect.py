"""Detects the format of each document and combines the imported SLOs of each service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import openslo, openslo_v1alpha, pyrra, sloth
from connectsoft_obs.ops.slo.importers.document_structure import METADATA, document_name, validate_structure
from connectsoft_obs.ops.slo.importers.imported_slo import ImportedSlo
from connectsoft_obs.ops.slo.importers.omissions import Omissions
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict, slo_to_dict


def import_documents(
    documents: Sequence[Any], service: str = "", omissions: Omissions | None = None
) -> list[ServiceSLOs]:
    """Return the SLOs in the documents of an OpenSLO, Sloth or Pyrra file, by service.

    Args:
        documents: the parsed documents of a YAML file.
        service: service name for SLOs that do not name a service.
        omissions: records the parts of the files that are not imported.

    Raises:
        ConfigurationError: an unknown format, or a feature that has no equivalent in this package.
    """
    omissions = Omissions() if omissions is None else omissions
    imported: list[ImportedSlo] = []
    mappings = [document for document in documents if isinstance(document, Mapping)]
    for document in mappings:
        validate_structure(document, METADATA, f"the document {document_name(document)}")
    references = openslo.collect_references(mappings)
    for document in mappings:
        _record_namespace(document, omissions)
        imported += _read_document(document, references, omissions)
    if not imported:
        raise ConfigurationError("the file", "it contains no SLO", "Use a file with at least one SLO document.")
    return _group_by_service(imported, service)


def _read_document(
    document: Mapping[str, Any], references: Mapping[str, Any], omissions: Omissions
) -> list[ImportedSlo]:
    version = str(document.get("apiVersion") or document.get("version") or "")
    if version == "openslo/v1alpha":
        return list(openslo_v1alpha.read_document(document, omissions))
    if version.startswith("openslo/v1"):
        return list(openslo.read_document(document, references, omissions))
    if version.startswith(("prometheus/v1", "sloth.slok.dev/")):
        return list(sloth.read_document(document, omissions))
    if version.startswith("pyrra.dev/"):
        return list(pyrra.read_document(document, omissions))
    raise ConfigurationError(
        f"a document with apiVersion {version!r}",
        "its format is not supported",
        "Use a file in OpenSLO v1, Sloth prometheus/v1 or Pyrra v1alpha1 format.",
    )


def _record_namespace(document: Mapping[str, Any], omissions: Omissions) -> None:
    metadata = document.get("metadata")
    if isinstance(metadata, Mapping) and (namespace := metadata.get("namespace")):
        omissions.add(str(metadata.get("name", "")), f"the namespace {namespace} of the resource is not imported")


def _group_by_service(imported: Sequence[ImportedSlo], default_service: str) -> list[ServiceSLOs]:
    service_tables: dict[str, Mapping[str, Any]] = {}
    slos_by_service: dict[str, list[SLO]] = {}
    for item in imported:
        service = item.service or default_service
        if not service:
            raise ConfigurationError(f"SLO {item.slo.name!r}", "it does not name its service", "Add --service NAME.")
        slos_by_service.setdefault(service, []).append(item.slo)
        if item.service_tables is not None:
            service_tables[service] = item.service_tables
    return [
        from_dict({**service_tables[service], "slo": [slo_to_dict(slo) for slo in slos]})
        if service in service_tables
        else ServiceSLOs(service=service, slos=tuple(slos))
        for service, slos in slos_by_service.items()
    ]
