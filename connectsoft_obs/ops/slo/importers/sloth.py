"""Importer for Sloth: `prometheus/v1` files, and the PrometheusServiceLevel resource with the same content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers.document_structure import (
    ANY_TABLE,
    Required,
    Scalar,
    Structure,
    document_name,
    validate_structure,
)
from connectsoft_obs.ops.slo.importers.imported_slo import ImportedSlo, range_query, sanitize_name
from connectsoft_obs.ops.slo.importers.omissions import Omissions
from connectsoft_obs.slo.alerting import AlertGroup, Alerting
from connectsoft_obs.slo.indicators import Ratio
from connectsoft_obs.slo.model import SLO

_GROUP_KEYS = ("version", "service", "labels", "slos", "slo_plugins", "sloPlugins")
_SLO_KEYS = (
    "name", "objective", "description", "sli", "labels", "alerting", "plugins", "slo_plugins", "sloPlugins",
)  # fmt: skip
_ALERT_KEYS = ("disable", "labels", "annotations")
_ALERTING_KEYS = ("name", "labels", "annotations", "page_alert", "pageAlert", "ticket_alert", "ticketAlert")
_ALERT: Structure = {"labels": ANY_TABLE, "annotations": ANY_TABLE}
_QUERIES: Structure = {
    key: Scalar.TEXT
    for key in ("error_query", "errorQuery", "total_query", "totalQuery", "error_ratio_query", "errorRatioQuery")
}
_SLO: Structure = {
    "objective": Required(Scalar.NUMBER),
    "labels": ANY_TABLE,
    "sli": {"events": _QUERIES, "raw": _QUERIES},
    "alerting": {
        "labels": ANY_TABLE,
        "annotations": ANY_TABLE,
        **dict.fromkeys(("page_alert", "pageAlert", "ticket_alert", "ticketAlert"), _ALERT),
    },
}
_GROUP: Structure = {"labels": ANY_TABLE, "slos": Required([_SLO])}


def read_document(document: Mapping[str, Any], omissions: Omissions) -> Iterator[ImportedSlo]:
    """Yield the SLOs of one document, with the labels, annotations and `disable` of their alerts.

    Raises:
        ConfigurationError: an SLI plugin, whose queries are not in the file, a query that is not PromQL, or a value of
            a wrong type.
    """
    structure = {"spec": Required(_GROUP)} if "spec" in document else _GROUP
    validate_structure(document, structure, f"the Sloth document {document_name(document)}")
    spec = document.get("spec", document)
    service = str(spec.get("service", ""))
    omissions.unknown_keys(service, spec, _GROUP_KEYS)
    for key in ("labels", "annotations") if spec is not document else ():
        for name in (document.get("metadata") or {}).get(key) or {}:
            omissions.add(service, f"the {key[:-1]} {name} of the resource is not imported")
    _record_plugins(service, spec, omissions)
    for entry in spec.get("slos", ()):
        name = sanitize_name(str(entry.get("name", "")))
        labels = {**(spec.get("labels") or {}), **(entry.get("labels") or {})}
        owner = labels.pop("owner", None) or labels.pop("team", None) or ""
        omissions.unknown_keys(name, entry, _SLO_KEYS)
        _record_plugins(name, entry, omissions)
        yield ImportedSlo(
            sanitize_name(service),
            SLO(
                name=name,
                objective=float(entry["objective"]),
                sli=_read_indicator(entry.get("sli") or {}, name),
                description=" ".join(str(entry.get("description") or "").split()),
                owner=str(owner),
                alerting=_read_alerting(name, labels, entry.get("alerting") or {}, omissions),
            ),
        )


def _record_plugins(subject: str, table: Mapping[str, Any], omissions: Omissions) -> None:
    plugins = table.get("slo_plugins") or table.get("sloPlugins") or table.get("plugins") or {}
    chain = plugins.get("chain") if isinstance(plugins, Mapping) else plugins
    for plugin in chain if isinstance(chain, list) else [chain] if chain else ():
        identifier = plugin.get("id", plugin) if isinstance(plugin, Mapping) else plugin
        omissions.add(subject, f"the SLO plugin {identifier} is not imported; it can change rules and numbers")


def _read_alerting(name: str, labels: Mapping[str, Any], alerting: Mapping[str, Any], omissions: Omissions) -> Alerting:
    omissions.unknown_keys(f"{name} alerting", alerting, _ALERTING_KEYS)
    if alert_name := alerting.get("name"):
        omissions.add(name, f"the alert name {alert_name} is not imported: names are derived from the SLO")
    fields: dict[str, Any] = {
        "labels": omissions.labels(name, "label", {**labels, **(alerting.get("labels") or {})}),
        "annotations": omissions.annotations(name, alerting.get("annotations")),
    }
    disable = []
    for group in ("page", "ticket"):
        alert = alerting.get(f"{group}_alert") or alerting.get(f"{group}Alert") or {}
        omissions.unknown_keys(f"{name} {group} alert", alert, _ALERT_KEYS)
        fields[f"{group}_labels"] = omissions.labels(name, f"{group} label", alert.get("labels"))
        fields[f"{group}_annotations"] = omissions.annotations(name, alert.get("annotations"))
        disable += [group] if alert.get("disable") else []
    return Alerting(disable=tuple(AlertGroup(group) for group in disable), **fields)


def _read_indicator(sli: Mapping[str, Any], name: str) -> Ratio:
    if events := sli.get("events"):
        bad = events.get("error_query") or events.get("errorQuery")
        total = events.get("total_query") or events.get("totalQuery")
        return Ratio(bad=range_query(bad, name), total=range_query(total, name))
    if raw := sli.get("raw"):
        ratio = range_query(raw.get("error_ratio_query") or raw.get("errorRatioQuery"), name)
        # A ratio does not include the number of events, so all times get the same weight.
        return Ratio(bad=ratio, total=f"0 * ({ratio}) + 1")
    raise ConfigurationError(
        f"sli of {name!r}",
        "it uses a plugin, whose queries are not in this file",
        "Replace the plugin by its queries: events with error_query and total_query.",
    )
