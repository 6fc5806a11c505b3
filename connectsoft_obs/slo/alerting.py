"""The alerting options of an SLO: which alerts it has, and their labels and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.indicators import as_tuple, enum_member
from connectsoft_obs.vocabulary import RESERVED_ALERT_LABELS, Severity


class AlertGroup(StrEnum):
    """Alerts by what they require: `page` for Sev1 and Sev2, `ticket` for Sev3."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """Alerting options of an SLO.

    Args:
        min_bad_events: bad events that the long window must contain before an alert pages.
        hard_down: page when 90 % of events are bad; by default if burn rate alerts alone are too slow for Sev1.
        no_data: alert when the indicator has no data; by default if the service is always on.
        wide: use the 6 h and 3 d windows only, for few and long events; by default for jobs.
        severity: most urgent severity of its alerts.
        disable: `page` for no alerts of Sev1 and Sev2, `ticket` for none of Sev3.
        labels: labels of all alerts in addition to the generated ones; values can be Prometheus templates.
        annotations: annotations of all alerts; they replace generated ones with the same name.
        page_labels: labels of alerts of Sev1 and Sev2.
        page_annotations: annotations of alerts of Sev1 and Sev2.
        ticket_labels: labels of alerts of Sev3.
        ticket_annotations: annotations of alerts of Sev3.

    Raises:
        ConfigurationError: a value is not valid, or a label is one that the rules set.
    """

    min_bad_events: int = 3
    hard_down: bool | None = None
    no_data: bool | None = None
    wide: bool | None = None
    severity: Severity = Severity.SEV1
    disable: tuple[AlertGroup, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    page_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    page_annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    ticket_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    ticket_annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Validate the values."""
        object.__setattr__(self, "severity", enum_member(Severity, self.severity, "severity"))
        groups = tuple(enum_member(AlertGroup, group, "disable") for group in as_tuple(self.disable))
        object.__setattr__(self, "disable", groups)
        for name in (*self.labels, *self.page_labels, *self.ticket_labels):
            if name in RESERVED_ALERT_LABELS:
                raise ConfigurationError(
                    f"alert label {name!r}", "the generated rules set it", "Use another name, or remove it."
                )
