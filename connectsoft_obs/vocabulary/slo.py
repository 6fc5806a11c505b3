"""Names in generated rules: recorded series, their labels, severities and what each asks of whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How urgent an alert is, as its label `severity` says; from the most urgent one down."""

    SEV1 = "Sev1"
    SEV2 = "Sev2"
    SEV3 = "Sev3"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class SeverityPolicy:
    """What a severity asks for.

    Args:
        seconds: time until somebody works on it.
        text: who, how and how fast, for annotations and runbooks.
        azure: the severity of Azure Monitor.
    """

    seconds: int
    text: str
    azure: int


RESPONSES: Final = {
    Severity.SEV1: SeverityPolicy(15 * 60, "page operations and the developer on call; respond within 15 minutes", 1),
    Severity.SEV2: SeverityPolicy(30 * 60, "page operations and the developer on call; respond within 30 minutes", 2),
    Severity.SEV3: SeverityPolicy(4 * 3600, "tell operations; respond within 4 hours, nobody is paged", 3),
    Severity.REVIEW: SeverityPolicy(5 * 86400, "review the promise with its owner; nobody is paged", 4),
}

SLO_LABEL_ID: Final = "slo_id"
SLO_LABEL_NAME: Final = "slo"
SLO_LABEL_SERVICE: Final = "service"
SLO_LABEL_WINDOW: Final = "slo_window"
SLO_LABEL_SCOPE: Final = "scope"
"""`service` on alerts about a service as a whole, which silence those about its single promises."""
SLO_LABEL_SEVERITY: Final = "severity"
SLO_LABEL_TEAM: Final = "team"

SLO_TOTAL: Final = "slo:sli_total:rate5m"
SLO_BAD: Final = "slo:sli_bad:rate5m"
SLO_ERROR_RATIO: Final = "slo:sli_error:ratio_rate"
"""Followed by its window, as in `slo:sli_error:ratio_rate1h`."""
SLO_BAD_INCREASE: Final = "slo:sli_bad:increase"
"""Followed by its window."""
SLO_BUDGET: Final = "slo:error_budget:ratio"
SLO_COVERAGE: Final = "slo:period_coverage:ratio"
SLO_REMAINING: Final = "slo:period_error_budget_remaining:ratio"
SLO_BURN: Final = "slo:composite_burn_rate:ratio"
SLO_OUTAGE: Final = "slo:outage:bool"
SLO_OUTAGE_BREACH: Final = "slo:outage_breach:bool"
SLO_OUTAGE_BREACHES: Final = "slo:outage_breaches:count"
"""Followed by its window."""
SLO_DOWNTIME: Final = "slo:outage:ratio"
"""Followed by its window: the share of time that was an outage."""
