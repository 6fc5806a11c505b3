"""What changes between two declarations, in what people notice: promises, budgets, and when alerts fire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectsoft_obs.ops.slo.explain import describe, explain
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.slo.serialization import slo_table


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `weaker` when less is promised than before."""

    about: str
    what: str
    before: str
    after: str
    weaker: bool = False


def changes(before: ServiceSLOs, after: ServiceSLOs) -> tuple[Change, ...]:
    """Every difference between two declarations of a service."""
    found: list[Change] = []
    old, new = {slo.name: slo for slo in before.slos}, {slo.name: slo for slo in after.slos}
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            found.append(Change(name, "promise", describe(old[name]), "-", weaker=True))
        elif name not in old:
            found.append(Change(name, "promise", "-", describe(new[name])))
        else:
            found += _of_one(before, after, old[name], new[name])
    for field in ("service", "source", "selector", "team", "scrape_interval", "interval"):
        was, now = getattr(before, field), getattr(after, field)
        if was != now:
            found.append(Change(after.service, field.replace("_", " "), str(was), str(now)))
    parts = {one.name: one.all_of for one in before.composites}, {one.name: one.all_of for one in after.composites}
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        was, now = (", ".join(part.get(name, ())) or "-" for part in parts)
        if was != now:
            found.append(
                Change(name, "all of", was, now, weaker=bool(set(parts[0].get(name, ())) - set(parts[1].get(name, ()))))
            )
    return tuple(found)


def _of_one(before: ServiceSLOs, after: ServiceSLOs, old: SLO, new: SLO) -> Iterator[Change]:
    was, now = describe(old), describe(new)
    if was != now:
        yield Change(new.name, "promise", was, now, weaker=_is_weaker(old, new))
    if old.objective is not None and new.objective is not None:
        minutes = [
            humanize(promises.period_of(slo) * float(slo.budget)) for promises, slo in ((before, old), (after, new))
        ]
        if minutes[0] != minutes[1]:
            yield Change(new.name, "budget", minutes[0], minutes[1])
    periods = humanize(before.period_of(old)), humanize(after.period_of(new))
    if periods[0] != periods[1]:
        yield Change(new.name, "period", *periods)
    for was_said, now_said in ((_fires(before, old), _fires(after, new)), (_fields(old), _fields(new))):
        for name in dict.fromkeys([*was_said, *now_said]):
            texts = was_said.get(name, "-"), now_said.get(name, "-")
            if texts[0] != texts[1]:
                yield Change(new.name, name, texts[0], texts[1])


def _is_weaker(old: SLO, new: SLO) -> bool:
    """Whether less is promised: a lower objective, a later threshold, a longer limit; unknown kinds count as such."""
    if old.sli.kind != new.sli.kind:
        return True
    lower = old.objective is not None and new.objective is not None and new.objective < old.objective
    later = any(
        (getattr(new.sli, name, None) or 0) > (getattr(old.sli, name, None) or 0)
        for name in ("threshold", "within", "limit", "allowed")
    )
    narrower = getattr(old.sli, "where", ()) != getattr(new.sli, "where", ())
    return lower or later or narrower


def _fires(promises: ServiceSLOs, slo: SLO) -> dict[str, str]:
    """The alerts of a promise by severity and windows: what makes them fire, and when that is."""
    return {
        f"{row.severity} {row.windows}": f"{row.share} bad; {row.outage} into a total outage"
        for row in explain(promises, slo).rows
    }


def _fields(slo: SLO) -> dict[str, str]:
    """Everything that was written down about a promise and is not said by the rest."""
    table = slo_table(slo)
    inner = {f"{part} {key}": value for part in ("sli", "alerting") for key, value in table.get(part, {}).items()}
    said = ("name", "objective", "sli", "alerting", "period")
    return {key: str(value) for key, value in {**table, **inner}.items() if key not in said}
