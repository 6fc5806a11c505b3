"""Names in generated SLO rules: recorded series, labels, severities and their response times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """Value of the alert label `severity`, most urgent first."""

    SEV1 = "Sev1"
    SEV2 = "Sev2"
    SEV3 = "Sev3"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class SeverityPolicy:
    """Required response to alerts of one severity.

    Args:
        seconds: maximum time until work on the alert starts.
        text: who is notified, how and how fast; for annotations and runbooks.
        azure: severity in Azure Monitor.
    """

    seconds: int
    text: str
    azure: int


SEVERITY_POLICIES: Final = {
    Severity.SEV1: SeverityPolicy(15 * 60, "page operations and the developer on call; respond within 15 minutes", 1),
    Severity.SEV2: SeverityPolicy(30 * 60, "page operations and the developer on call; respond within 30 minutes", 2),
    Severity.SEV3: SeverityPolicy(4 * 3600, "ticket for operations; respond within 4 hours", 3),
    Severity.REVIEW: SeverityPolicy(5 * 86400, "ticket for the owner; review the SLO within 5 days", 4),
}

SLO_LABEL_ID: Final = "slo_id"
SLO_LABEL_NAME: Final = "slo"
SLO_LABEL_SERVICE: Final = "service"
SLO_LABEL_WINDOW: Final = "slo_window"
SLO_LABEL_SCOPE: Final = "scope"
"""On alerts that are not about one objective: `SCOPE_SERVICE` or `SCOPE_DATA`."""
SCOPE_SERVICE: Final = "service"
"""The service is down. The alert inhibits alerts about missing data, and never one on an objective."""
SCOPE_DATA: Final = "data"
"""An indicator has no data, or telemetry does not arrive. The alert inhibits no other."""
SLO_LABEL_SEVERITY: Final = "severity"
SLO_LABEL_TEAM: Final = "team"

SLO_LABEL_BUDGET_LEFT: Final = "budget_left"
RESERVED_ALERT_LABELS: Final = frozenset({
    "alertname", SLO_LABEL_ID, SLO_LABEL_NAME, SLO_LABEL_SERVICE, SLO_LABEL_WINDOW, SLO_LABEL_SCOPE, SLO_LABEL_SEVERITY,
    SLO_LABEL_TEAM, SLO_LABEL_BUDGET_LEFT,
})  # fmt: skip
"""Labels that the generated rules set. A declaration must not contain them."""

SLO_TOTAL: Final = "slo:sli_total:rate5m"
SLO_BAD: Final = "slo:sli_bad:rate5m"
SLO_ERROR_RATIO: Final = "slo:sli_error:ratio_rate"
"""Prefix; the window follows, as in `slo:sli_error:ratio_rate1h`."""
SLO_BAD_INCREASE: Final = "slo:sli_bad:increase"
"""Prefix; the window follows."""
SLO_BUDGET: Final = "slo:error_budget:ratio"
SLO_COVERAGE: Final = "slo:period_coverage:ratio"
SLO_REMAINING: Final = "slo:period_error_budget_remaining:ratio"
SLO_NEXT_RUN: Final = "slo:next_expected_run:timestamp"
SLO_BURN: Final = "slo:composite_burn_rate:ratio"
SLO_SEV1: Final = "slo:sev1:bool"
SLO_SEV2: Final = "slo:sev2:bool"
SLO_OUTAGE: Final = "slo:outage:bool"
SLO_OUTAGE_BREACH: Final = "slo:outage_breach:bool"
SLO_OUTAGE_BREACHES: Final = "slo:outage_breaches:count"
"""Prefix; the window follows."""
SLO_DOWNTIME: Final = "slo:outage:ratio"
"""Prefix; the window follows. The ratio of time in outage."""
