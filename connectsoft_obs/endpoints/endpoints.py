"""Which paths we answer, and with what. Used by the middleware and by the side listener of workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from connectsoft_obs.endpoints import info, report
from connectsoft_obs.endpoints.asked import NOT_FOUND, UNAUTHORIZED, UNKNOWN, Access, Answered, Asked
from connectsoft_obs.endpoints.loggers import METHODS, Loggers
from connectsoft_obs.endpoints.scrape import Scrape
from connectsoft_obs.health import Probe, Report
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.telemetry import Telemetry

Page = Callable[[Asked], Answered]

_READING = ("GET", "HEAD")


class Endpoints:
    """The endpoints of one Telemetry. Thread-safe; answering reads state and waits for nothing.

    `paths` maps each path to its page and `settings` to the setting that moves it; `fixed` are the paths that stay ours
    when the application routes them itself. `slow` are the pages that take long enough to be asked for in a thread.
    `below` is what paths start with that `page_below` knows: single checks, single loggers.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        settings = telemetry.settings
        self._telemetry = telemetry
        self._scrape = Scrape(telemetry)
        self._access = Access(settings, telemetry.identity.environment == "development")
        health = telemetry.health
        ledger = telemetry.ledger
        live = _Probed(partial(health.report, Probe.LIVENESS), self._access, ledger, health.moment)
        ready = _Probed(partial(health.report, Probe.READINESS), self._access, ledger, health.moment)
        startup = _Probed(partial(health.report, Probe.STARTUP), self._access, ledger, health.moment)
        pages_by_setting: dict[str, Page] = {
            "live_path": live,
            "live_alias": live,
            "ready_path": ready,
            "startup_path": startup,
            "startup_alias": startup,
            "health_path": _Probed(health.whole, self._access, ledger),
            "metrics_path": self._metrics,
            "info_path": self._info,
        }
        by_path = {getattr(settings, name): (name, page) for name, page in pages_by_setting.items()}
        self.paths: dict[str, Page] = {path: page for path, (_, page) in by_path.items() if path}
        self.settings: dict[str, str] = {path: name for path, (name, _) in by_path.items() if path}
        self.slow: frozenset[Page] = frozenset({self._metrics})
        self.fixed: frozenset[str] = frozenset({settings.live_path, settings.ready_path, settings.startup_path})
        self._checks: dict[str, _Probed] = {
            f"{path}/": page
            for path, page in zip(
                (settings.live_path, settings.ready_path, settings.startup_path), (live, ready, startup), strict=True
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
        if loggers is not None and loggers.mine(path):
            return partial(_page_of_logger, loggers, path) if method in METHODS else None
        if method not in _READING:
            return None
        return next(
            (page.of(path[len(start) :]) for start, page in self._checks.items() if path.startswith(start)), None
        )

    def _metrics(self, asked: Asked) -> Answered:
        if not self._access.metrics(asked):
            return UNAUTHORIZED
        if not self._access.internal(asked):
            return NOT_FOUND
        return self._scrape.page(asked)

    def _info(self, asked: Asked) -> Answered:
        if not self._access.internal(asked):
            return NOT_FOUND
        return info.page(self._telemetry.identity, self._telemetry.started)


def _page_of_logger(loggers: Loggers, path: str, asked: Asked) -> Answered:
    return loggers.page(asked, path)


class _Probed:
    """The pages of one probe: its report, and that of each of its checks.

    The answer that probers get is kept while nothing in it can have changed: making it anew for each of 2,000 probes a
    second took requests 3.5 % of a core beyond the probes' own cost (tests/bench/between_probes.py).
    """

    def __init__(
        self,
        report: Callable[[], Report],
        access: Access,
        ledger: Ledger,
        moment: Callable[[], object] | None = None,
    ) -> None:
        self._report = report
        self._ledger = ledger
        self._access = access
        self._moment = moment
        self._kept: tuple[object, Answered] | None = None

    def __call__(self, asked: Asked) -> Answered:
        try:
            return self._answered(asked)
        except Exception as failure:  # noqa: BLE001  ours; it must not restart or take out a service that works
            self._ledger.error("endpoints.probe", failure)
            return UNKNOWN

    def _answered(self, asked: Asked) -> Answered:
        details = self._access.details(asked)
        if self._moment is None or details or not report.is_plain(asked):
            return report.page(self._report(), asked, details)
        moment, kept = self._moment(), self._kept
        if kept is not None and kept[0] == moment:
            return kept[1]
        answered = report.page(self._report(), asked, details)
        self._kept = (moment, answered)
        return answered

    def of(self, name: str) -> Page:
        """The page of one of its checks."""

        def page(asked: Asked) -> Answered:
            return report.page(self._report(), asked, self._access.details(asked), name)

        return page
