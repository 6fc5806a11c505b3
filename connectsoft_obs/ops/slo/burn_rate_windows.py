"""Pairs of windows and their burn rates, and what follows: when an alert fires, whether it can, when it resolves.

The pairs are those of the SRE Workbook, chapter 5, table 5-8, and its extended example: 1 h, 6 h, 1 d and 3 d.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from connectsoft_obs.slo.durations import DAY, HOUR, MINUTE, prometheus
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import RESPONSES, Severity

HARD_DOWN = Decimal("0.9")
HARD_DOWN_FOR = 3 * MINUTE


@dataclass(frozen=True, slots=True)
class BurnRateWindow:
    """A long and a short window, and the burn rate at which both alert.

    Args:
        long: seconds; decides when the alert fires.
        short: seconds; decides when it resolves.
        factor: how many times faster than allowed the budget burns.
        severity: how urgent that is.
    """

    long: int
    short: int
    factor: Decimal
    severity: Severity

    @property
    def name(self) -> str:
        """The long window as Prometheus writes it."""
        return prometheus(self.long)

    def threshold(self, budget: Decimal) -> Decimal:
        """The share of bad events at which it fires."""
        return self.factor * budget

    def can_fire(self, budget: Decimal) -> bool:
        """Whether a total outage is enough; a share of bad events cannot pass 1."""
        return self.threshold(budget) < 1

    def detection(self, budget: Decimal, bad: float = 1.0) -> float | None:
        """Seconds of steady traffic with this share of bad events until it fires, from a clean state; None for never."""
        threshold = float(self.threshold(budget))
        return self.long * threshold / bad if threshold < bad else None

    def reset(self, budget: Decimal, bad: float = 1.0) -> float:
        """Seconds from recovery until it resolves."""
        return self.short * max(0.0, 1 - float(self.threshold(budget)) / bad)

    def consumed(self, period: int) -> float:
        """The share of a period's budget that is gone when it fires."""
        return float(self.factor) * self.long / period

    def time_to_exhaustion(self, period: int) -> float:
        """Seconds that a full budget lasts at the rate at which it fires."""
        return period / float(self.factor)

    def min_events(self, budget: Decimal, failures: int = 1) -> float:
        """Events in the long window below which so many failures are enough."""
        return failures / float(self.threshold(budget))


def pairs(promises: ServiceSLOs, slo: SLO) -> tuple[BurnRateWindow, ...]:
    """The window pairs of a promise, the most urgent first.

    Burn rates are relative to the budget and so do not depend on the period, except below four weeks, where they are
    lowered so that the first pair fires before a tenth of the budget is gone. None is below 1: a service that keeps its
    promise exactly never alerts.
    """
    short_period = promises.period_of(slo) < 28 * DAY
    factors = ("13.44", "3.5", "1.4", "1") if short_period else ("14.4", "6", "3", "1")
    fast, medium, slow, slowest = (Decimal(factor) for factor in factors)
    if slo.wide:
        return (
            BurnRateWindow(6 * HOUR, 30 * MINUTE, medium, Severity.SEV2),
            BurnRateWindow(3 * DAY, 6 * HOUR, slowest, Severity.SEV3),
        )
    return (
        BurnRateWindow(HOUR, 5 * MINUTE, fast, Severity.SEV1),
        BurnRateWindow(6 * HOUR, 30 * MINUTE, medium, Severity.SEV2),
        BurnRateWindow(DAY, 2 * HOUR, slow, Severity.SEV3),
        BurnRateWindow(3 * DAY, 6 * HOUR, slowest, Severity.SEV3),
    )


def first_page(promises: ServiceSLOs, slo: SLO) -> float | None:
    """Seconds until burn rates alone page Sev1 in a total outage; None for never."""
    first = pairs(promises, slo)[0]
    return first.detection(slo.budget) if first.severity is Severity.SEV1 else None


def hard_down(promises: ServiceSLOs, slo: SLO) -> bool:
    """Whether a promise needs the rule that pages when nine of ten events are bad.

    It does where burn rates need more than a third of the time that Sev1 leaves for a response.
    """
    if slo.alerting.hard_down is not None:
        return slo.alerting.hard_down
    seconds = first_page(promises, slo)
    if isinstance(slo.sli, Freshness):  # time passes evenly, so burn rates are as fast as a rule of its own
        return seconds is None
    return seconds is None or seconds > RESPONSES[Severity.SEV1].seconds / 3


def cap_severity(severity: Severity, slo: SLO) -> Severity:
    """A severity, or the most urgent one that the promise may have."""
    order = list(Severity)
    return order[max(order.index(severity), order.index(slo.alerting.severity))]
