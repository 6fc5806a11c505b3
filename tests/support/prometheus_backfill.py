"""Runs Prometheus with generated rules and a history, which is written into its storage before it starts."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from connectsoft_obs.ops.slo.targets.prometheus import render_rules_file
from connectsoft_obs.slo import ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BAD, SLO_ERROR_RATIO, SLO_REMAINING, SLO_TOTAL
from support.process import free_port, wait_for
from support.servers import Prometheus, program_path, running_server

TILE_SECONDS = 300

EventRates = Callable[[float], tuple[float, float]]
"""Total and bad events per second at a Unix time."""


def tile_samples(service_slos: ServiceSLOs, rates: Mapping[str, EventRates], start: float, end: float) -> Iterator[str]:
    """Yield the recorded event rates of SLOs in the OpenMetrics format, one sample every five minutes."""
    times = _times(start, end, TILE_SECONDS)
    for series, rate_index in ((SLO_TOTAL, 0), (SLO_BAD, 1)):
        yield f"# TYPE {series} gauge"
        for name, rates_at in rates.items():
            labels = _slo_labels(service_slos, name)
            yield from (f"{series}{{{labels}}} {rates_at(time)[rate_index]!r} {time}" for time in times)


def budget_samples(
    service_slos: ServiceSLOs, rates: Mapping[str, EventRates], start: float, end: float
) -> Iterator[str]:
    """Yield the recorded remaining error budgets and error ratios of the last hour.

    Each series starts when its window, a whole period or an hour, is covered.
    """
    times = _times(start, end, TILE_SECONDS)
    cumulative: dict[str, list[tuple[float, float]]] = {}
    for name, rates_at in rates.items():
        sums = [(0.0, 0.0)]
        for time in times:
            total, bad = rates_at(time)
            sums.append((sums[-1][0] + total, sums[-1][1] + bad))
        cumulative[name] = sums
    for series, is_hourly in ((SLO_REMAINING, False), (f"{SLO_ERROR_RATIO}1h", True)):
        yield f"# TYPE {series} gauge"
        for name, sums in cumulative.items():
            slo = service_slos.find(name)
            tiles = 12 if is_hourly else service_slos.period_seconds(slo) // TILE_SECONDS
            labels = _slo_labels(service_slos, name)
            for index in range(tiles, len(times)):
                total, bad = (sums[index + 1][column] - sums[index + 1 - tiles][column] for column in (0, 1))
                value = bad / total if is_hourly else 1 - bad / total / float(slo.error_budget)
                yield f"{series}{{{labels}}} {value!r} {times[index]}"


def counter_samples(
    rates: Mapping[str, EventRates], labels: str, start: float, end: float, step: int = 15
) -> Iterator[str]:
    """Yield the samples that a running service exports: `up`, and the counters of its SLO events."""
    times = _times(start, end, step)
    yield "# TYPE up gauge"
    yield from (f"up{{{labels}}} 1 {time}" for time in times)
    yield "# TYPE connectsoft_slo_events counter"
    for name, rates_at in rates.items():
        for outcome in ("good", "bad"):
            count = 0.0
            for time in times:
                total, bad = rates_at(time)
                count += step * (bad if outcome == "bad" else total - bad)
                yield (
                    f'connectsoft_slo_events_total{{{labels},connectsoft_slo_name="{name}",'
                    f'connectsoft_slo_outcome="{outcome}"}} {count!r} {time}'
                )


def _times(start: float, end: float, step: int) -> range:
    return range(int(start - start % step), int(end) + 1, step)


def _slo_labels(service_slos: ServiceSLOs, name: str) -> str:
    return f'slo_id="{service_slos.service}-{name}",slo="{name}",service="{service_slos.service}"'


@contextmanager
def prometheus_with_history(
    service_slos: ServiceSLOs,
    history: Sequence[str],
    *,
    targets: Sequence[str] = (),
    alertmanager: str = "",
    scrape_interval: str = "1s",
) -> Iterator[Prometheus]:
    """Run Prometheus with the generated rules of a service.

    Args:
        service_slos: the service.
        history: samples in the OpenMetrics format, without the final `# EOF`.
        targets: addresses to scrape as the job of the service.
        alertmanager: address of an Alertmanager.
        scrape_interval: time between scrapes, and between evaluations.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "history.txt").write_text("\n".join([*history, "# EOF\n"]))
        if history:
            subprocess.run(
                [
                    program_path("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=2000h", "openmetrics", "-q",
                    "history.txt", "data",
                ],
                cwd=directory, check=True, capture_output=True, timeout=120,
            )  # fmt: skip
        (directory / "rules.yaml").write_text(render_rules_file(service_slos))
        config = {
            "global": {
                "scrape_interval": scrape_interval,
                "evaluation_interval": scrape_interval,
                "scrape_timeout": scrape_interval,
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": service_slos.service, "static_configs": [{"targets": list(targets)}]}],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (directory / "prometheus.yaml").write_text(json.dumps(config))
        command = [
            program_path("prometheus"),
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--storage.tsdb.retention.time=400d",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running_server(command, port):
            server = Prometheus(f"http://127.0.0.1:{port}")
            wait_for(lambda: httpx.get(f"{server.url}/-/ready", timeout=5).status_code == 200, 20)
            yield server
