"""Writes the metrics of a short-lived process when it ends: to a Pushgateway, to a textfile for node-exporter, or to both.

A scrape does not reach a process that ends before the next scrape.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from connectsoft_obs.process.threads import start_thread
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.metrics import USER_METRICS, Snapshot
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.telemetry import Telemetry, on_configured
from connectsoft_obs.vocabulary import (
    ERRORS,
    JOB_DURATION,
    JOB_LAST_RUN,
    JOB_LAST_SUCCESS,
    JOB_NAME,
    JOB_NEXT_EXPECTED,
    JOB_RETRIES,
    SERVICE_INSTANCE_ID,
    prometheus_name,
)

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric

_JOB_METRICS = {
    metric.name for metric in (JOB_DURATION, JOB_RETRIES, JOB_LAST_RUN, JOB_LAST_SUCCESS, JOB_NEXT_EXPECTED)
}
"""Metrics that stay true after the process has ended: not the number of active runs, nor a heartbeat."""

_SHARE_OF_SHUTDOWN_TIMEOUT = 0.5
"""The rest is for OTLP exports, which follow."""


class BatchMetrics:
    """Metrics of one Telemetry that are written when its process ends.

    Each job that has run has a group of its own, with the labels `job` (the service), `instance` (only if
    `service.instance.id` is configured) and `connectsoft_job_name`. Metrics that the application defines have a group
    without a job name. A metric of a group replaces that of the previous process; a metric that this process did not
    record keeps its value, so that a failed run does not remove the time of the last success.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def write(self) -> None:
        """Write all groups, within half of `shutdown_timeout`. Does not raise."""
        telemetry = self._telemetry
        with telemetry.internal_telemetry.guard("metrics.batch"):
            groups = self._collect_groups()
            if not groups:
                return
            timeout = telemetry.settings.shutdown_timeout * _SHARE_OF_SHUTDOWN_TIMEOUT
            outputs: list[Callable[[], None]] = []
            if (directory := telemetry.settings.metrics_textfile_directory) is not None:
                outputs.append(partial(self._write_textfiles, Path(directory), groups))
            if (url := telemetry.settings.pushgateway_url) is not None:
                outputs.append(partial(self._push, url, groups, monotonic() + timeout))
            self._run_in_threads(outputs, timeout)

    def _run_in_threads(self, outputs: list[Callable[[], None]], timeout: float) -> None:
        """A name server, a slow response and a network file system can block longer than the timeout of a socket."""
        deadline = monotonic() + timeout
        threads = []
        for output in outputs:
            if (thread := start_thread("obs-batch-metrics", output)) is not None:
                threads.append(thread)
            else:
                output()
        for thread in threads:
            thread.join(max(deadline - monotonic(), 0))
            if thread.is_alive():
                self._report(
                    "batch", "metrics of this process were not written in time", TimeoutError(f"{timeout:g} s"), {}
                )

    def _collect_groups(self) -> list[tuple[dict[str, str], list[ClientMetric]]]:
        """Labels and metrics of each group."""
        telemetry = self._telemetry
        snapshots = telemetry.metrics.collect_all_workers(exemplars=False)
        # Other jobs of the program are declared, too: their due times, counted from now, would hide a missed run.
        jobs = [values[0] for item in snapshots if item.metric.name == JOB_LAST_RUN.name for values in item.series]
        target = {"job": "/".join(filter(None, (telemetry.identity.namespace, telemetry.identity.service)))}
        if instance := telemetry.settings.resource_attributes.get(SERVICE_INSTANCE_ID):
            target["instance"] = instance
        groups = [
            ({**target, prometheus_name(JOB_NAME): job}, [_series_of_job(item, job) for item in snapshots])
            for job in jobs
        ]
        groups.append((target, [item for item in snapshots if item.metric.name in USER_METRICS]))
        parsed = [(labels, _client_metrics(items)) for labels, items in groups]
        return [(labels, families) for labels, families in parsed if families]

    def _push(self, url: str, groups: list[tuple[dict[str, str], list[ClientMetric]]], deadline: float) -> None:
        from prometheus_client import pushadd_to_gateway

        parts = urlsplit(url)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        for labels, families in groups:
            key = dict(labels)
            try:
                pushadd_to_gateway(
                    address,
                    key.pop("job"),
                    _Families(families),
                    key,
                    timeout=max(deadline - monotonic(), 0.01),
                    handler=_handler(parts.username, parts.password),
                )
            except Exception as error:  # noqa: BLE001  any error of the network or of the gateway
                self._report("pushgateway", "metrics were not pushed to the Pushgateway", error, {"endpoint": address})
                return

    def _write_textfiles(self, directory: Path, groups: list[tuple[dict[str, str], list[ClientMetric]]]) -> None:
        from prometheus_client import write_to_textfile

        for labels, families in groups:
            name = ",".join(f"{label}={quote(value, safe='')}" for label, value in labels.items())
            file = directory / f"{name}.prom"
            try:
                kept = _read_textfile(file, {family.name for family in families})
                write_to_textfile(str(file), _Families([*_with_labels(families, labels), *kept]))
            except Exception as error:  # noqa: BLE001  any error of the file system
                self._report(
                    "textfile", "metrics were not written to the textfile directory", error, {"file": str(file)}
                )

    def _report(self, output: str, message: str, error: Exception, fields: dict[str, str]) -> None:
        telemetry = self._telemetry
        with telemetry.internal_telemetry.guard("metrics.batch"):
            telemetry.metrics.add(ERRORS, (f"metrics.{output}",))
            text = f"{type(error).__name__}: {safe_str(error, str)}"
            telemetry.internal_telemetry.warn_once(("metrics.batch", message), message, {**fields, "error": text})


class _Families:
    """A registry of prometheus_client with fixed families."""

    def __init__(self, families: list[ClientMetric]) -> None:
        self._families = families

    def collect(self) -> Iterable[ClientMetric]:
        """Return the families."""
        return self._families


def _series_of_job(snapshot: Snapshot, job: str) -> Snapshot:
    """The series of one job; none if the metric is not one of those that are written."""
    if snapshot.metric.name not in _JOB_METRICS:
        return Snapshot(snapshot.metric, {})
    position = snapshot.metric.labels.index(JOB_NAME)
    series = {values: content for values, content in snapshot.series.items() if values[position] == job}
    return Snapshot(snapshot.metric, series)


def _client_metrics(snapshots: list[Snapshot]) -> list[ClientMetric]:
    from prometheus_client.parser import text_string_to_metric_families

    return list(text_string_to_metric_families("".join(Exposition(False).format_families(snapshots, no_pause))))


def _read_textfile(file: Path, names: set[str]) -> list[ClientMetric]:
    """The metrics of an existing textfile, except those with one of the names; none if it is not readable."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        text = file.read_text("utf-8")
        return [family for family in text_string_to_metric_families(text) if family.name not in names]
    except (OSError, ValueError):
        return []


def _with_labels(families: list[ClientMetric], labels: dict[str, str]) -> list[ClientMetric]:
    from prometheus_client import Metric as ClientMetric

    result = []
    for family in families:
        labelled = ClientMetric(family.name, family.documentation, family.type)
        labelled.samples = [sample._replace(labels={**sample.labels, **labels}) for sample in family.samples]
        result.append(labelled)
    return result


def _handler(username: str | None, password: str | None) -> Callable[..., Callable[[], None]]:
    """The request handler of prometheus_client, with basic authentication if there is a user name."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    if username is None:
        return default_handler
    credentials: dict[str, Any] = {"username": unquote(username), "password": unquote(password or "")}
    return partial(basic_auth_handler, **credentials)


def _write_at_shutdown(telemetry: Telemetry) -> None:
    settings = telemetry.settings
    if settings.disabled or telemetry.exporters is None or multiprocessing.parent_process() is not None:
        return  # the process that has started a child of multiprocessing writes the values of the child
    if settings.pushgateway_url is not None or settings.metrics_textfile_directory is not None:
        telemetry.on_shutdown(BatchMetrics(telemetry).write)


on_configured(_write_at_shutdown)
