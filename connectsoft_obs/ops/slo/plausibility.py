"""Valid values of a declaration that are probably mistakes: a wrong unit or scale, or a value that never counts."""

from __future__ import annotations

from collections.abc import Iterator

from connectsoft_obs.ops.findings import Finding, Level
from connectsoft_obs.slo.durations import MINUTE, humanize
from connectsoft_obs.slo.indicators import Events, OutageLimit
from connectsoft_obs.slo.model import SLO, ServiceSLOs
from connectsoft_obs.vocabulary import HTTP_METHOD, HTTP_METHODS, HTTP_ROUTE, REQUEST_DURATION

_MIN_OBJECTIVE, _MAX_OBJECTIVE = 50, 99.999
_MAX_REQUEST_SECONDS = MINUTE
_ENDPOINTS = ("/health", "/health/live", "/health/ready", "/health/startup", "/alive", "/startup", "/metrics", "/info")
"""Default paths of the endpoints of this package, whose requests are not measured."""


def check_plausibility(service_slos: ServiceSLOs) -> Iterator[Finding]:
    """Yield a finding for each value that is probably a mistake."""
    yield from _check_service(service_slos)
    for slo in service_slos.slos:
        slo_id = service_slos.slo_id(slo)
        yield from _check_objective(slo_id, slo)
        if isinstance(slo.sli, Events | OutageLimit):
            yield from _check_matchers(slo_id, dict(slo.sli.matchers))
        if isinstance(slo.sli, Events):
            yield from _check_threshold(slo_id, slo.sli)


def _check_service(service_slos: ServiceSLOs) -> Iterator[Finding]:
    shares = [percent for percent in service_slos.review_at if percent]
    if shares and max(shares) < 1:
        yield Finding(
            Level.WARNING, "review-fraction", service_slos.service,
            f"review_at = {list(service_slos.review_at)} are percentages below 1",
            "Write percentages, such as [50, 25, 0].",
        )  # fmt: skip
    urls = {"runbook_base": service_slos.runbook_base, "dashboard_base": service_slos.dashboard_base}
    urls |= {f"runbook of {slo.name!r}": slo.runbook for slo in service_slos.slos}
    for name, url in urls.items():
        if url and not url.startswith(("https://", "http://")):
            yield Finding(
                Level.WARNING, "url", service_slos.service, f"{name} = {url!r} is not the URL of a page",
                "Write it with https://, so that the link in alerts opens.",
            )  # fmt: skip


def _check_objective(slo_id: str, slo: SLO) -> Iterator[Finding]:
    if slo.objective is None:
        return
    if slo.objective < _MIN_OBJECTIVE:
        yield Finding(
            Level.WARNING, "low-objective", slo_id, f"the objective of {slo.objective:g} % allows most events to fail",
            "Check the decimal point: 99.9 instead of 9.99.",
        )  # fmt: skip
    if slo.objective > _MAX_OBJECTIVE:
        yield Finding(
            Level.WARNING, "high-objective", slo_id,
            f"an objective of {slo.objective:.10g} % leaves less than 26 s of outage in 30 days",
            "No response is fast enough for it. Choose an objective of at most 99.99 %.",
        )  # fmt: skip


def _check_matchers(slo_id: str, matchers: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    for method in matchers.get(HTTP_METHOD, ()):
        if method not in HTTP_METHODS:
            yield Finding(
                Level.WARNING, "method-not-counted", slo_id, f"{method} is not a method that is recorded by name",
                f"Use {', '.join(sorted(HTTP_METHODS))}, or add it to the known methods of the service.",
            )  # fmt: skip
    for route in matchers.get(HTTP_ROUTE, ()):
        if route in _ENDPOINTS:
            yield Finding(
                Level.WARNING, "route-not-counted", slo_id,
                f"requests of {route} are not measured: this package answers them, unless it is configured otherwise",
                "Use a route of the application.",
            )  # fmt: skip


def _check_threshold(slo_id: str, sli: Events) -> Iterator[Finding]:
    if sli.threshold is not None and sli.instrument == REQUEST_DURATION.name and sli.threshold > _MAX_REQUEST_SECONDS:
        yield Finding(
            Level.WARNING, "threshold-unit", slo_id,
            f"the threshold of a request is {humanize(sli.threshold)}; a number without a unit is seconds",
            f'Write threshold = "{sli.threshold:g}ms" if milliseconds are meant.',
        )  # fmt: skip
