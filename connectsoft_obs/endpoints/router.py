"""Maps paths to the pages of the endpoints. Used by the ASGI middleware and by the server of the management port."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from connectsoft_obs.endpoints import health_response, info
from connectsoft_obs.endpoints.access_policy import AccessPolicy
from connectsoft_obs.endpoints.loggers import METHODS, LoggersPage
from connectsoft_obs.endpoints.metrics_page import MetricsPage
from connectsoft_obs.endpoints.request_response import (
    DEGRADED_FALLBACK,
    NOT_FOUND,
    UNAUTHORIZED,
    EndpointRequest,
    EndpointResponse,
)
from connectsoft_obs.health import Probe, Report
from connectsoft_obs.signals.logs.levels import INFO
from connectsoft_obs.telemetry import Telemetry

Page = Callable[[EndpointRequest], EndpointResponse]
"""Returns the response to a request."""

_READ_METHODS = ("GET", "HEAD")


class EndpointRouter:
    """The endpoints of one Telemetry. Thread-safe. Pages respond at once, except those in `slow_pages`.

    Attributes:
        pages: page by path, and by path with a trailing slash.
        setting_by_path: the setting that has set a path, for paths without an added slash.
        reserved_paths: paths that are served even if the application routes them itself.
        slow_pages: pages that must be called in a thread.
        prefixes: prefixes of the paths that `find_page_by_prefix` serves: single checks and single loggers.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings, health = telemetry.settings, telemetry.health
        self._telemetry = telemetry
        self._metrics_page = MetricsPage(telemetry)
        self._logged_reasons: set[str] = set()
        self._access = AccessPolicy(settings, telemetry.identity.environment == "development")
        probe_pages = {
            probe: _ProbePage(partial(health.report, probe), telemetry, self._access, health.version)
            for probe in (Probe.LIVENESS, Probe.READINESS, Probe.STARTUP)
        }
        pages_by_setting: dict[str, Page] = {
            "liveness_path": probe_pages[Probe.LIVENESS],
            "liveness_path_alias": probe_pages[Probe.LIVENESS],
            "readiness_path": probe_pages[Probe.READINESS],
            "startup_path": probe_pages[Probe.STARTUP],
            "startup_path_alias": probe_pages[Probe.STARTUP],
            "health_path": _ProbePage(health.full_report, telemetry, self._access),
            "metrics_path": self._metrics,
            "info_path": self._info,
        }
        by_path = {getattr(settings, name): (name, page) for name, page in pages_by_setting.items()}
        path_by_probe = {
            Probe.LIVENESS: settings.liveness_path,
            Probe.READINESS: settings.readiness_path,
            Probe.STARTUP: settings.startup_path,
        }
        self.pages: dict[str, Page] = {path: page for path, (_, page) in by_path.items() if path}
        self.setting_by_path: dict[str, str] = {path: name for path, (name, _) in by_path.items() if path}
        self.slow_pages: frozenset[Page] = frozenset({self._metrics})
        self.reserved_paths: frozenset[str] = frozenset(path_by_probe.values())
        self._page_by_prefix = {f"{path}/": probe_pages[probe] for probe, path in path_by_probe.items() if path}
        runtime_levels = telemetry.runtime_levels
        self._loggers = (
            None
            if runtime_levels is None
            else LoggersPage(settings.loggers_path, telemetry.logs.levels, runtime_levels, self._access)
        )
        self.prefixes: tuple[str, ...] = (
            *self._page_by_prefix,
            *([] if self._loggers is None else [self._loggers.path]),
        )
        for path in list(self.pages):
            if not f"{path}/".startswith(self.prefixes):
                self.pages.setdefault(f"{path}/", self.pages[path])

    def find_page(self, method: str, path: str) -> Page | None:
        """Return the page for a method and path, or None."""
        page = self.pages.get(path)
        if page is not None:
            return page if method in _READ_METHODS else None
        return self.find_page_by_prefix(method, path) if path.startswith(self.prefixes) else None

    def find_page_by_prefix(self, method: str, path: str) -> Page | None:
        """Return the page of a check that exists (`/health/ready/postgres`) or of a single logger, or None."""
        loggers = self._loggers
        if loggers is not None and loggers.owns_path(path):
            return partial(_logger_page, loggers, path) if method in METHODS else None
        if method not in _READ_METHODS:
            return None
        for prefix, page in self._page_by_prefix.items():
            if path.startswith(prefix) and page.has_check(name := path[len(prefix) :]):
                return page.page_of_check(name)
        return None

    def _metrics(self, request: EndpointRequest) -> EndpointResponse:
        if not self._access.has_metrics_token(request):
            return UNAUTHORIZED
        return self._deny("/metrics", request) or self._metrics_page.page(request)

    def _info(self, request: EndpointRequest) -> EndpointResponse:
        return self._deny("/info", request) or info.info_page(self._telemetry.identity, self._telemetry.started)

    def _deny(self, name: str, request: EndpointRequest) -> EndpointResponse | None:
        """Return a 404 response if a client may not see a page, else None. Each reason is logged once."""
        reason = self._access.denial_reason(request)
        if reason is None:
            return None
        if reason not in self._logged_reasons:
            self._logged_reasons.add(reason)
            self._telemetry.log(
                INFO,
                f"a request for {name} was answered with 404: {reason}; a scraper needs CONNECTSOFT_OBS_METRICS_TOKEN, "
                "CONNECTSOFT_OBS_DETAILS_NETWORKS or CONNECTSOFT_OBS_METRICS_PUBLIC",
            )
        return NOT_FOUND


def _logger_page(loggers: LoggersPage, path: str, request: EndpointRequest) -> EndpointResponse:
    return loggers.page(request, path)


class _ProbePage:
    """The page of one probe and of its checks.

    The response to probes is cached until the report changes. Without the cache, 2,000 probes per second cost the requests
    3.5 % of a core in addition to the cost of the probes (tests/bench/probe_interference.py).

    Args:
        report: returns the health report.
        telemetry: the Telemetry.
        access: decides who may see failure reasons.
        report_version: returns a value that changes with the report; None disables the cache.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        telemetry: Telemetry,
        access: AccessPolicy,
        report_version: Callable[[], object] | None = None,
    ) -> None:
        self._report = report
        self._internal_telemetry = telemetry.internal_telemetry
        self._redaction = telemetry.logs.redaction
        self._access = access
        self._report_version = report_version
        self._cached: tuple[object, EndpointResponse] | None = None

    def __call__(self, request: EndpointRequest) -> EndpointResponse:
        with self._internal_telemetry.guard("endpoints.probe"):
            return self._respond(request)
        return DEGRADED_FALLBACK

    def _respond(self, request: EndpointRequest) -> EndpointResponse:
        details = self._access.allows_details(request)
        if self._report_version is None or details or not health_response.is_default_request(request):
            return health_response.health_page(self._report(), request, details, self._redaction)
        version, cached = self._report_version(), self._cached
        if cached is not None and cached[0] == version:
            return cached[1]
        response = health_response.health_page(self._report(), request, details, self._redaction)
        self._cached = (version, response)
        return response

    def has_check(self, name: str) -> bool:
        """Return whether the probe has a check of this name; an empty name stands for all checks."""
        return not name or any(entry.name == name for entry in self._report().entries)

    def page_of_check(self, name: str) -> Page:
        """Return the page of one of the checks."""

        def page(request: EndpointRequest) -> EndpointResponse:
            details = self._access.allows_details(request)
            return health_response.health_page(self._report(), request, details, self._redaction, name)

        return page
