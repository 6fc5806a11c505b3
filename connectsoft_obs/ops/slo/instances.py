"""Series that show whether instances of a service run: `up` if Prometheus scrapes them, else series that they push."""

from __future__ import annotations

from connectsoft_obs.ops.slo.promql import series_selector, service_selector
from connectsoft_obs.slo.indicators import Events, Ratio
from connectsoft_obs.slo.model import ServiceSLOs, Source
from connectsoft_obs.vocabulary import BUILD_INFO, SLO_EVENTS

TARGET_INFO = "target_info"


def has_instance_series(service_slos: ServiceSLOs) -> bool:
    """Return whether the declaration identifies the series of the instances.

    It does if it has `selector` or `scraped`, or if an indicator reads series of the service.
    A service whose indicators are all custom PromQL, such as an imported one, can have any value of `job`.
    """
    is_stated = bool(service_slos.selector) or service_slos.scraped is not None
    return is_stated or any(not isinstance(slo.sli, Ratio) for slo in service_slos.slos)


def running_instances(service_slos: ServiceSLOs) -> str:
    """Return an expression that has series while at least one instance runs, and none otherwise.

    Pushed series end five minutes after the last push. If the declaration does not state whether Prometheus scrapes the
    service, either kind of series is evidence of an instance.
    """
    selector = service_selector(service_slos)
    series = [] if service_slos.scraped is False else [f"{series_selector('up', selector)} == 1"]
    if not service_slos.scraped:
        series += [series_selector(family, selector) for family in _pushed_families(service_slos)]
    return " or ".join(series)


def _pushed_families(service_slos: ServiceSLOs) -> list[str]:
    """Return families that an instance pushes from its start, or as soon as it handles events."""
    families = [TARGET_INFO, BUILD_INFO.family]
    if service_slos.source is Source.EVENTS:
        return [*families, f"{SLO_EVENTS.family}_total"]
    indicators = [slo.sli for slo in service_slos.slos if isinstance(slo.sli, Events)]
    histograms = [sli.metric.family for sli in indicators if sli.metric is not None]
    return [*families, *(f"{family}_count" for family in dict.fromkeys(histograms))]
