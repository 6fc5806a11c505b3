"""Differences between two SLO declarations: objectives, error budgets, and when alerts fire."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from connectsoft_obs.ops.slo.explain import describe, explain
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.policy import ErrorBudgetPolicy
from connectsoft_obs.slo.serialization import slo_to_dict

_SERVICE_FIELDS = ("service", "source", "selector", "team", "scrape_interval", "interval")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Args:
        subject: name of the SLO or service.
        field: what changed.
        before: previous value; `-` if there was none.
        after: new value; `-` if there is none.
        weaker: whether the new declaration requires less.
    """

    subject: str
    field: str
    before: str
    after: str
    weaker: bool = False


def find_changes(before: ServiceSLOs, after: ServiceSLOs) -> tuple[Change, ...]:
    """Return the differences between two declarations of a service."""
    return (*_slo_changes(before, after), *_service_changes(before, after), *_composite_changes(before, after))


def _slo_changes(before: ServiceSLOs, after: ServiceSLOs) -> Iterator[Change]:
    old, new = {slo.name: slo for slo in before.slos}, {slo.name: slo for slo in after.slos}
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield Change(name, "SLO", describe(old[name]), "-", weaker=True)
        elif name not in old:
            yield Change(name, "SLO", "-", describe(new[name]))
        else:
            yield from _changes_of_slo(before, after, old[name], new[name])


def _service_changes(before: ServiceSLOs, after: ServiceSLOs) -> Iterator[Change]:
    for field in _SERVICE_FIELDS:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            yield Change(after.service, field.replace("_", " "), str(old), str(new))
    for name in (field.name for field in dataclasses.fields(ErrorBudgetPolicy)):
        old, new = getattr(before.policy, name), getattr(after.policy, name)
        if old != new:
            is_weaker = (name == "unknown" and new == "pass") or (name == "min_remaining" and new < old)
            yield Change(after.service, f"policy {name.replace('_', ' ')}", str(old), str(new), weaker=is_weaker)


def _composite_changes(before: ServiceSLOs, after: ServiceSLOs) -> Iterator[Change]:
    old_parts, new_parts = ({part.name: part.all_of for part in slos.composites} for slos in (before, after))
    for name in dict.fromkeys([*old_parts, *new_parts]):
        old, new = old_parts.get(name, ()), new_parts.get(name, ())
        if ", ".join(old) != ", ".join(new):
            yield Change(name, "all of", ", ".join(old) or "-", ", ".join(new) or "-", weaker=bool(set(old) - set(new)))


def _changes_of_slo(before: ServiceSLOs, after: ServiceSLOs, old: SLO, new: SLO) -> Iterator[Change]:
    descriptions = describe(old), describe(new)
    if descriptions[0] != descriptions[1]:
        yield Change(new.name, "SLO", *descriptions, weaker=_is_weaker(old, new))
    old_period, new_period = before.period_seconds(old), after.period_seconds(new)
    if old.objective is not None and new.objective is not None:
        old_budget = humanize(old_period * float(old.error_budget))
        new_budget = humanize(new_period * float(new.error_budget))
        if old_budget != new_budget:
            yield Change(new.name, "error budget", old_budget, new_budget)
    if humanize(old_period) != humanize(new_period):
        yield Change(new.name, "period", humanize(old_period), humanize(new_period))
    for old_texts, new_texts in (
        (_alert_texts(before, old), _alert_texts(after, new)),
        (_other_fields(old), _other_fields(new)),
    ):
        for name in dict.fromkeys([*old_texts, *new_texts]):
            texts = old_texts.get(name, "-"), new_texts.get(name, "-")
            if texts[0] != texts[1]:
                yield Change(new.name, name, *texts)


def _is_weaker(old: SLO, new: SLO) -> bool:
    """Return whether the new SLO requires less: a lower objective, a higher limit, other matchers or another SLI."""
    if old.sli.kind != new.sli.kind:
        return True
    has_lower_objective = old.objective is not None and new.objective is not None and new.objective < old.objective
    has_higher_limit = any(
        (getattr(new.sli, name, None) or 0) > (getattr(old.sli, name, None) or 0)
        for name in ("threshold", "within", "limit", "allowed")
    )
    has_other_matchers = getattr(old.sli, "matchers", ()) != getattr(new.sli, "matchers", ())
    return has_lower_objective or has_higher_limit or has_other_matchers


def _alert_texts(service_slos: ServiceSLOs, slo: SLO) -> dict[str, str]:
    """Return when each alert of an SLO fires, by severity and windows."""
    return {
        f"{row.severity} {row.windows}": f"at {row.error_ratio} bad events; {row.detection_time} into a total outage"
        for row in explain(service_slos, slo).rows
    }


def _other_fields(slo: SLO) -> dict[str, str]:
    """Return the declared fields of an SLO that the other differences do not cover."""
    table = slo_to_dict(slo)
    nested = {f"{part} {key}": value for part in ("sli", "alerting") for key, value in table.get(part, {}).items()}
    covered = ("name", "objective", "sli", "alerting", "period")
    return {key: str(value) for key, value in {**table, **nested}.items() if key not in covered}
