"""The decision whether an error budget permits a deployment."""

from __future__ import annotations

from dataclasses import dataclass

from connectsoft_obs.ops.slo.report.budget import BudgetState, BudgetStatus, format_remaining
from connectsoft_obs.slo.model import ServiceSLOs


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision for one SLO.

    Args:
        slo: identifier of the SLO.
        state: what the error budget policy requires.
        remaining: share of the error budget that is left; None without data.
        passes: whether a deployment may proceed.
        reason: why it may or may not.
    """

    slo: str
    state: str
    remaining: float | None
    passes: bool
    reason: str


def evaluate_gate(
    service_slos: ServiceSLOs,
    slo_id: str,
    budget: BudgetStatus,
    min_remaining: float | None = None,
    unknown: str | None = None,
) -> GateResult:
    """Decide from the status of an error budget.

    Args:
        service_slos: the service, whose policy applies.
        slo_id: identifier of the SLO.
        budget: its error budget.
        min_remaining: percent of the error budget that must be left; by default that of the policy.
        unknown: `pass` if an SLO that never had data passes, else `fail`; by default that of the policy.
    """
    min_remaining = service_slos.policy.min_remaining if min_remaining is None else min_remaining
    unknown = unknown or service_slos.policy.unknown
    if budget.state is BudgetState.UNKNOWN or budget.remaining is None:
        passes, reason = unknown == "pass", "there is no data"
    elif budget.state is BudgetState.INCIDENT:
        names = ", ".join(f"{name} ({severity})" for name, severity in budget.firing.items())
        passes, reason = False, f"firing: {names}"
    else:
        passes = budget.remaining > min_remaining / 100
        reason = f"{format_remaining(budget.remaining)} is left, more than {min_remaining:g} % is required"
    return GateResult(slo_id, budget.state, budget.remaining, passes, reason)
