"""Where promises stand, as a page to read: a table, a chapter a promise, plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from connectsoft_obs.ops.slo.burn_rate_windows import pairs
from connectsoft_obs.ops.slo.report.plot import lines
from connectsoft_obs.ops.slo.report.status import BudgetState, SloStatus
from connectsoft_obs.slo.durations import humanize
from connectsoft_obs.slo.model import ServiceSLOs

_MEANING = {
    BudgetState.OK: "nothing to do",
    BudgetState.REVIEW: "look at what spent it",
    BudgetState.FREEZE: "reliability before new work",
    BudgetState.UNKNOWN: "nobody knows; see that data arrives before anything else",
}


def render_markdown(promises: ServiceSLOs, standings: Sequence[SloStatus], *, with_plots: bool) -> str:
    """The page. With plots it links to the files of `plots`, expected beside it."""
    return "\n".join(_page(promises, standings, with_plots)) + "\n"


def plots(promises: ServiceSLOs, standings: Sequence[SloStatus]) -> dict[str, str]:
    """The SVG files of the page, by name."""
    found = {}
    for one in standings:
        start = one.at - one.period
        reviews = [(left / 100, "#d97706", f"review at {left:g} %") for left in promises.review_at if left]
        found[f"{one.id}-budget.svg"] = lines(
            f"{one.id}: error budget left",
            [("left", one.left_over_time)],
            start,
            one.at,
            marks=[*reviews, (0.0, "#b91c1c", "spent")],
            unit="%",
            low=0.0,
            high=1.0,
        )
        if one.burn_over_time:
            slo = promises.named(one.id)
            found[f"{one.id}-burn.svg"] = lines(
                f"{one.id}: burn rate over {pairs(promises, slo)[0].name}",
                [("burn rate", one.burn_over_time)],
                start,
                one.at,
                marks=[
                    (float(pair.factor), "#b91c1c" if pair.factor > 3 else "#d97706", f"{pair.severity} {pair.factor}")
                    for pair in pairs(promises, slo)
                ],
                low=0.0,
                high=2.0,
            )
    return found


def _page(promises: ServiceSLOs, standings: Sequence[SloStatus], with_plots: bool) -> Iterator[str]:
    moment = max((one.at for one in standings), default=0.0)
    yield f"# Promises of {promises.service}"
    yield ""
    yield f"As of {_when(moment)} UTC." + (f" {promises.team} answers for them." if promises.team else "")
    yield ""
    yield "| promise | state | budget left | burn rate | known for |"
    yield "| --- | --- | --- | --- | --- |"
    for one in standings:
        quick = next(iter(one.burns.values()), None)
        yield (
            f"| {one.id}: {one.promise} | {one.state} | {_share(one.remaining)} "
            f"| {'-' if quick is None else f'{quick:.2f}'} | {_share(one.coverage)} of {humanize(one.period)} |"
        )
    for one in standings:
        yield from _chapter(one, with_plots)


def _chapter(one: SloStatus, with_plots: bool) -> Iterator[str]:
    yield ""
    yield f"## {one.id}"
    yield ""
    yield f"{one.promise[:1].upper()}{one.promise[1:]}, over {humanize(one.period)}. [Runbook]({one.runbook})."
    yield ""
    yield f"**{one.state}**: {_MEANING[one.state]}."
    if one.coverage is not None and one.coverage < 0.9:
        yield ""
        yield (
            f"The indicator was known for only {_share(one.coverage)} of the period. "
            "What nobody saw counts as free of errors."
        )
    yield ""
    yield from (f"- {fact}" for fact in _facts(one))
    if with_plots:
        yield ""
        yield f"![Error budget left of {one.id}]({one.id}-budget.svg)"
        if one.burn_over_time:
            yield ""
            yield f"![Burn rate of {one.id}]({one.id}-burn.svg)"
    if one.incidents:
        yield ""
        yield from _incidents(one)
    if one.months:
        yield ""
        yield "| month | good | bad | share good | of its own budget |"
        yield "| --- | --- | --- | --- | --- |"
        for month in one.months:
            total = month.good + month.bad
            good = f"{month.good / total * 100:.4g} %" if total else "-"
            spent = "-" if month.spent is None else f"{month.spent * 100:.3g} % spent"
            yield f"| {month.name} | {month.good:,.0f} | {month.bad:,.0f} | {good} | {spent} |"


def _facts(one: SloStatus) -> Iterator[str]:
    if one.breaches is not None or one.downtime is not None:
        yield f"{one.breaches or 0:.0f} outages were longer than promised; {one.allowed:.0f} are allowed"
        yield f"{humanize(one.downtime) if one.downtime else 'none'} of outage in all"
        longest = max((incident.length for incident in one.incidents), default=0.0)
        yield f"longest outage: {humanize(longest) if longest else 'none'}"
        return
    if one.good is None or one.bad is None or one.allowed is None:
        return
    total = one.good + one.bad
    yield f"{total:,.0f} {one.counted}, {one.bad:,.0f} of them bad; {one.allowed:,.0f} bad ones are allowed"
    if one.budget_minutes is not None and one.remaining is not None:
        left = one.budget_minutes * one.remaining
        yield (
            f"budget: {one.budget_minutes:,.1f} minutes of total outage, {_share(one.remaining)} of it "
            f"({left:,.1f} minutes) left"
        )
    if one.burns:
        yield "burn rates: " + ", ".join(f"{burn:.2f} over {window}" for window, burn in one.burns.items())
    yield (
        f"at the rate of the last six hours nothing is left in {humanize(one.exhausted_in)}"
        if one.exhausted_in is not None
        else "at the rate of the last six hours the budget lasts"
        if one.remaining is not None and one.remaining > 0
        else "nothing is left"
    )


def _incidents(one: SloStatus) -> Iterator[str]:
    outage = one.good is None
    yield f"| from (UTC) | for | {'of the limit' if outage else f'bad {one.counted} | worst 5 min | of the budget'} |"
    yield "| --- | --- | --- |" if outage else "| --- | --- | --- | --- | --- |"
    for incident in one.incidents:
        start = f"| {_when(incident.start)} | {humanize(incident.length)} |"
        if outage:
            yield f"{start} {incident.spent * 100:.0f} % |"
        else:
            yield f"{start} {incident.events:,.0f} | {incident.worst * 100:.3g} % | {incident.spent * 100:.3g} % |"


def _when(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value * 100:.1f} %"
