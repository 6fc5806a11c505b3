"""Which paths we answer, and with what. Used by the middleware and by the side listener of workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from connectsoft_obs.endpoints import health_response, info
from connectsoft_obs.endpoints.loggers import METHODS, Loggers
from connectsoft_obs.endpoints.messages import (
    DEGRADED_FALLBACK,
    NOT_FOUND,
    UNAUTHORIZED,
    AccessPolicy,
    EndpointRequest,
    EndpointResponse,
)
from connectsoft_obs.endpoints.metrics_page import MetricsPage
from connectsoft_obs.health import Probe, Report
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.redaction import RedactionPolicy
from connectsoft_obs.telemetry import Telemetry

Page = Callable[[EndpointRequest], EndpointResponse]

_READING = ("GET", "HEAD")


class EndpointRouter:
    """The endpoints of one Telemetry. Thread-safe; answering reads state and waits for nothing.

    `paths` maps each path to its page and `settings` to the setting that moves it; `fixed` are the paths that stay ours
    when the application routes them itself. `slow` are the pages that take long enough to be asked for in a thread.
    `below` is what paths start with that `page_below` knows: single checks, single loggers.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings = telemetry.settings
        self._telemetry = telemetry
        self._scrape = MetricsPage(telemetry)
        self._access = AccessPolicy(settings, telemetry.identity.environment == "development")
        health = telemetry.health
        internal_telemetry = telemetry.internal_telemetry
        policy = telemetry.logs.redaction
        live = _ProbePage(
            partial(health.report, Probe.LIVENESS), self._access, policy, internal_telemetry, health.version
        )
        ready = _ProbePage(
            partial(health.report, Probe.READINESS), self._access, policy, internal_telemetry, health.version
        )
        startup = _ProbePage(
            partial(health.report, Probe.STARTUP), self._access, policy, internal_telemetry, health.version
        )
        pages_by_setting: dict[str, Page] = {
            "liveness_path": live,
            "liveness_path_alias": live,
            "readiness_path": ready,
            "startup_path": startup,
            "startup_path_alias": startup,
            "health_path": _ProbePage(health.full_report, self._access, policy, internal_telemetry),
            "metrics_path": self._metrics,
            "info_path": self._info,
        }
        by_path = {getattr(settings, name): (name, page) for name, page in pages_by_setting.items()}
        self.paths: dict[str, Page] = {path: page for path, (_, page) in by_path.items() if path}
        self.settings: dict[str, str] = {path: name for path, (name, _) in by_path.items() if path}
        self.slow: frozenset[Page] = frozenset({self._metrics})
        self.fixed: frozenset[str] = frozenset({settings.liveness_path, settings.readiness_path, settings.startup_path})
        self._checks: dict[str, _ProbePage] = {
            f"{path}/": page
            for path, page in zip(
                (settings.liveness_path, settings.readiness_path, settings.startup_path),
                (live, ready, startup),
                strict=True,
            )
            if path
        }
        overrides = telemetry.overrides
        self._loggers = (
            None
            if overrides is None
            else Loggers(settings.loggers_path, telemetry.logs.levels, overrides, self._access)
        )
        self.below: tuple[str, ...] = (*self._checks, *([] if self._loggers is None else [self._loggers.path]))

    def page(self, method: str, path: str) -> Page | None:
        """The page of a path, or None where it is none of ours."""
        page = self.paths.get(path)
        if page is not None:
            return page if method in _READING else None
        return self.page_below(method, path) if path.startswith(self.below) else None

    def page_below(self, method: str, path: str) -> Page | None:
        """The page of a single check below its probe's, `/health/ready/postgres`, or of a single logger."""
        loggers = self._loggers
        if loggers is not None and loggers.owns_path(path):
            return partial(_page_of_logger, loggers, path) if method in METHODS else None
        if method not in _READING:
            return None
        return next(
            (page.page_for(path[len(start) :]) for start, page in self._checks.items() if path.startswith(start)), None
        )

    def _metrics(self, asked: EndpointRequest) -> EndpointResponse:
        if not self._access.metrics(asked):
            return UNAUTHORIZED
        if not self._access.internal(asked):
            return NOT_FOUND
        return self._scrape.page(asked)

    def _info(self, asked: EndpointRequest) -> EndpointResponse:
        if not self._access.internal(asked):
            return NOT_FOUND
        return info.page(self._telemetry.identity, self._telemetry.started)


def _page_of_logger(loggers: Loggers, path: str, asked: EndpointRequest) -> EndpointResponse:
    return loggers.page(asked, path)


class _ProbePage:
    """The pages of one probe: its report, and that of each of its checks.

    The answer that probers get is kept while nothing in it can have changed: making it anew for each of 2,000 probes a
    second took requests 3.5 % of a core beyond the probes' own cost (tests/bench/probe_interference.py).
    """

    def __init__(
        self,
        report: Callable[[], Report],
        access: AccessPolicy,
        policy: RedactionPolicy,
        internal_telemetry: InternalTelemetry,
        moment: Callable[[], object] | None = None,
    ) -> None:
        self._report = report
        self._internal_telemetry = internal_telemetry
        self._access = access
        self._policy = policy
        self._moment = moment
        self._kept: tuple[object, EndpointResponse] | None = None

    def __call__(self, asked: EndpointRequest) -> EndpointResponse:
        try:
            return self._answered(asked)
        except Exception as failure:  # noqa: BLE001  ours; it must not restart or take out a service that works
            self._internal_telemetry.record_error("endpoints.probe", failure)
            return DEGRADED_FALLBACK

    def _answered(self, asked: EndpointRequest) -> EndpointResponse:
        details = self._access.details(asked)
        if self._moment is None or details or not health_response.is_plain(asked):
            return health_response.page(self._report(), asked, details, self._policy)
        moment, kept = self._moment(), self._kept
        if kept is not None and kept[0] == moment:
            return kept[1]
        answered = health_response.page(self._report(), asked, details, self._policy)
        self._kept = (moment, answered)
        return answered

    def page_for(self, name: str) -> Page:
        """The page of one of its checks."""

        def page(asked: EndpointRequest) -> EndpointResponse:
            return health_response.page(self._report(), asked, self._access.details(asked), self._policy, name)

        return page
