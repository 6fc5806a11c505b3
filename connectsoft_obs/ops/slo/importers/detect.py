"""Finding out which tool a file was written for, and putting the promises in it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import openslo, pyrra, sloth
from connectsoft_obs.ops.slo.importers.imported import ImportedSlo
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict as from_tables
from connectsoft_obs.slo.serialization import slo_table


def import_document(documents: Sequence[Any], service: str = "") -> list[ServiceSLOs]:
    """The promises in the documents of a YAML file of OpenSLO, Sloth or Pyrra, one for each service.

    Args:
        documents: what the file holds.
        service: the service of promises that name none.

    Raises:
        ConfigurationError: something that cannot be said here, with what to write instead.
    """
    found: list[ImportedSlo] = []
    tables = [document for document in documents if isinstance(document, Mapping)]
    shared = openslo.shared(tables)
    for document in tables:
        version = str(document.get("apiVersion") or document.get("version") or "")
        if version.startswith("openslo/v1"):
            found += openslo.found(document, shared)
        elif version.startswith(("prometheus/v1", "sloth.slok.dev/")):
            found += sloth.found(document)
        elif version.startswith("pyrra.dev/"):
            found += pyrra.found(document)
        else:
            raise ConfigurationError(
                f"a document with apiVersion {version!r}",
                "it is of no tool that can be read",
                "There are OpenSLO v1, Sloth prometheus/v1 and Pyrra v1alpha1.",
            )
    if not found:
        raise ConfigurationError("the file", "it promises nothing", "Give one with SLO documents.")
    return _by_service(found, service)


def _by_service(found: Sequence[ImportedSlo], service: str) -> list[ServiceSLOs]:
    whole: dict[str, Mapping[str, Any]] = {}
    slos: dict[str, list[SLO]] = {}
    for one in found:
        name = one.service or service
        if not name:
            raise ConfigurationError(
                f"objective {one.slo.name!r}", "it does not say of which service it is", "Give --service NAME."
            )
        slos.setdefault(name, []).append(one.slo)
        if one.whole is not None:
            whole[name] = one.whole
    return [
        from_tables({**whole[name], "slo": [slo_table(slo) for slo in some]})
        if name in whole
        else ServiceSLOs(service=name, slos=tuple(some))
        for name, some in slos.items()
    ]
