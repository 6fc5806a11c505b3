"""Windows and burn rates of multi-window alerts, and their properties: detection time, reset time, budget consumed.

Windows and burn rates follow the SRE Workbook, chapter 5, table 5-8, and its extended example: 1 h, 6 h, 1 d and 3 d.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from connectsoft_obs.slo.durations import DAY, HOUR, MINUTE, format_prometheus
from connectsoft_obs.slo.indicators import Freshness
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import SEVERITY_POLICIES, Severity

HARD_DOWN_RATIO = Decimal("0.9")
HARD_DOWN_FOR = 3 * MINUTE
PAGING_SEVERITIES = (Severity.SEV1, Severity.SEV2)


@dataclass(frozen=True, slots=True)
class BurnRateWindow:
    """A long and a short window with the burn rate above which an alert fires.

    Args:
        long: long window in seconds; determines the detection time.
        short: short window in seconds; determines the reset time.
        factor: burn rate, as a multiple of the rate that consumes the error budget exactly in the compliance period.
        severity: severity of the alert.
    """

    long: int
    short: int
    factor: Decimal
    severity: Severity

    @property
    def name(self) -> str:
        """The long window as a PromQL duration."""
        return format_prometheus(self.long)

    def threshold(self, budget: Decimal) -> Decimal:
        """Return the error ratio above which the alert fires."""
        return self.factor * budget

    def can_fire(self, budget: Decimal) -> bool:
        """Return whether a total outage can fire the alert; the error ratio cannot exceed 1."""
        return self.threshold(budget) < 1

    def detection_time(self, budget: Decimal, error_ratio: float = 1.0) -> float | None:
        """Return the seconds until the alert fires at a constant error ratio, after an error-free period; None if never."""
        threshold = float(self.threshold(budget))
        return self.long * threshold / error_ratio if threshold < error_ratio else None

    def reset_time(self, budget: Decimal, error_ratio: float = 1.0) -> float:
        """Return the seconds from recovery until the alert resolves."""
        return self.short * max(0.0, 1 - float(self.threshold(budget)) / error_ratio)

    def budget_consumed(self, period: int) -> float:
        """Return the ratio of a period's error budget that is consumed when the alert fires."""
        return float(self.factor) * self.long / period

    def time_to_exhaustion(self, period: int) -> float:
        """Return the seconds in which this burn rate exhausts a full error budget."""
        return period / float(self.factor)

    def min_events(self, budget: Decimal, failures: int = 1) -> float:
        """Return the number of events in the long window below which this number of failures fires the alert."""
        return failures / float(self.threshold(budget))


def burn_rate_windows(service_slos: ServiceSLOs, slo: SLO) -> tuple[BurnRateWindow, ...]:
    """Return the windows of an SLO, the most urgent first.

    Burn rates are relative to the error budget and do not depend on the compliance period, except below four weeks:
    there they are lower, so that the first alert fires before 10 % of the error budget is consumed. No burn rate is
    below 1: a service that exactly meets its objective never alerts.
    """
    short_period = service_slos.period_seconds(slo) < 28 * DAY
    factors = ("13.44", "3.5", "1.4", "1") if short_period else ("14.4", "6", "3", "1")
    fast, medium, slow, slowest = (Decimal(factor) for factor in factors)
    if slo.uses_wide_windows:
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


def time_to_first_page(service_slos: ServiceSLOs, slo: SLO) -> float | None:
    """Return the seconds until a burn rate alert pages with Sev1 in a total outage; None if never."""
    window = burn_rate_windows(service_slos, slo)[0]
    return window.detection_time(slo.error_budget) if window.severity is Severity.SEV1 else None


def needs_hard_down_alert(service_slos: ServiceSLOs, slo: SLO) -> bool:
    """Return whether an SLO gets the hard-down alert, which pages when 90 % of events are bad.

    By default it does if burn rate alerts need more than a third of the Sev1 response time to page.
    """
    if slo.alerting.hard_down is not None:
        return slo.alerting.hard_down
    seconds = time_to_first_page(service_slos, slo)
    if isinstance(slo.sli, Freshness):  # time passes at a constant rate, so a hard-down alert would not be faster
        return seconds is None
    return seconds is None or seconds > SEVERITY_POLICIES[Severity.SEV1].seconds / 3


def cap_severity(severity: Severity, slo: SLO) -> Severity:
    """Return the severity, or the most urgent one that the SLO allows if that is less urgent."""
    severities = list(Severity)
    return severities[max(severities.index(severity), severities.index(slo.alerting.severity))]
