"""The SLOs that a process declares, and which of them name a service, a route or a job that does not exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from connectsoft_obs.slo.event_counter import CounterLike, EventCounter, required_buckets
from connectsoft_obs.slo.indicators import Freshness, Matchers
from connectsoft_obs.slo.loader import load_any
from connectsoft_obs.slo.model import SLO
from connectsoft_obs.slo.uncounted_slos import UncountedSLOs, WarnOnce
from connectsoft_obs.vocabulary import HTTP_ROUTE, JOB_NAME

_UNNAMED_SERVICE = "this-service"
_MIN_SIMILARITY = 0.6
_MIN_SIMILARITY_OF_MISSPELLING = 0.8


class DeclaredSLOs(NamedTuple):
    """The SLOs that a process counts.

    Args:
        slos: the SLOs.
        service: name of the service that generated rules select; None if it is that of the process.
    """

    slos: tuple[SLO, ...]
    service: str | None

    @property
    def bucket_bounds(self) -> Mapping[str, tuple[float, ...]]:
        """Bucket boundaries that thresholds need, by the OpenTelemetry name of the histogram."""
        return required_buckets(self.slos)

    def create_event_counter(self, create_counter: Callable[[str, str], CounterLike]) -> EventCounter:
        """Create the counter of good and bad events; see `EventCounter`."""
        return EventCounter(self.slos, create_counter)

    def create_uncounted_warning(self, counter: EventCounter, warn_once: WarnOnce) -> Callable[[], None]:
        """Create the function that warns about SLOs which never count an event; see `UncountedSLOs`."""
        return UncountedSLOs(counter, warn_once)


class UnknownName(NamedTuple):
    """A route or job that an SLO names and that does not exist, with existing ones of similar names."""

    slo: str
    name: str
    similar: Sequence[str]

    @property
    def advice(self) -> str:
        """What to do: `did you mean /orders/{id}?`, or empty without a similar name."""
        return f"did you mean {' or '.join(self.similar)}?" if self.similar else ""


def load_declared_slos(source: Any) -> DeclaredSLOs:
    """Load the SLOs of `slo_file` or `objectives`.

    Raises:
        ConfigurationError: the file cannot be read, or its content is not valid.
    """
    service_slos = load_any(source, _UNNAMED_SERVICE)
    # The service name does not select series if the declaration has a selector.
    is_selected_by_name = service_slos.service != _UNNAMED_SERVICE and not service_slos.selector
    return DeclaredSLOs(service_slos.slos, service_slos.service if is_selected_by_name else None)


def unknown_routes(slos: Sequence[SLO], templates: Collection[str]) -> Iterator[UnknownName]:
    """Yield the routes of SLOs that are not among the route templates of the application."""
    for slo in slos:
        for route in _matched_values(slo, HTTP_ROUTE):
            if route and route not in templates:
                yield UnknownName(slo.name, route, _similar(route, templates, _MIN_SIMILARITY))


def misspelled_jobs(slos: Sequence[SLO], jobs: Collection[str]) -> Iterator[UnknownName]:
    """Yield the jobs of SLOs that are not declared in this process, if a declared one has a similar name.

    Another process of the service may declare the others.
    """
    names = {slo.name: _job_names(slo) for slo in slos}
    unnamed = set(jobs).difference(*names.values())
    for slo, slo_jobs in names.items():
        for job in slo_jobs:
            if job not in jobs and (similar := _similar(job, unnamed, _MIN_SIMILARITY_OF_MISSPELLING)):
                yield UnknownName(slo, job, similar)


def _job_names(slo: SLO) -> tuple[str, ...]:
    if isinstance(slo.sli, Freshness):
        return (slo.sli.job,) if slo.sli.job else ()
    return _matched_values(slo, JOB_NAME)


def _matched_values(slo: SLO, attribute: str) -> tuple[str, ...]:
    matchers: Matchers = getattr(slo.sli, "matchers", ())
    return dict(matchers).get(attribute, ())


def _similar(name: str, names: Collection[str], similarity: float) -> Sequence[str]:
    from difflib import get_close_matches  # only needed for a warning; not imported at every start

    return get_close_matches(name, sorted(names), 2, similarity)
