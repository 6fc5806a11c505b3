"""A real Prometheus that remembers: weeks of counted events written into its store before it starts."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from connectsoft_obs.ops.slo.targets.prometheus import rules_file
from connectsoft_obs.slo import ServiceSLOs
from connectsoft_obs.vocabulary import SLO_BAD, SLO_ERROR_RATIO, SLO_REMAINING, SLO_TOTAL
from support.process import free_port, wait_for
from support.servers import Prometheus, program, running

TILE = 300

Rate = Callable[[float], tuple[float, float]]
"""All events and bad events a second at a Unix time."""


def tiles(promises: ServiceSLOs, rates: Mapping[str, Rate], start: float, end: float) -> Iterator[str]:
    """The two series that rules record for each promise, a sample every five minutes."""
    moments = range(int(start - start % TILE), int(end) + 1, TILE)
    for name, which in ((SLO_TOTAL, 0), (SLO_BAD, 1)):
        yield f"# TYPE {name} gauge"
        for promise, rate in rates.items():
            labels = f'slo_id="{promises.service}-{promise}",slo="{promise}",service="{promises.service}"'
            yield from (f"{name}{{{labels}}} {rate(at)[which]!r} {at}" for at in moments)


def standings(promises: ServiceSLOs, rates: Mapping[str, Rate], start: float, end: float) -> Iterator[str]:
    """What rules would have recorded of budgets left and of the last hour, from the moment a period has passed."""
    moments = range(int(start - start % TILE), int(end) + 1, TILE)
    summed: dict[str, list[tuple[float, float]]] = {}
    for name, rate in rates.items():
        sums = [(0.0, 0.0)]
        for at in moments:
            every, bad = rate(at)
            sums.append((sums[-1][0] + every, sums[-1][1] + bad))
        summed[name] = sums
    for series, hour in ((SLO_REMAINING, False), (f"{SLO_ERROR_RATIO}1h", True)):
        yield f"# TYPE {series} gauge"
        for name, sums in summed.items():
            slo = promises.named(name)
            width = 12 if hour else promises.period_of(slo) // TILE
            labels = f'slo_id="{promises.service}-{name}",slo="{name}",service="{promises.service}"'
            for index in range(width, len(moments)):
                every, bad = (sums[index + 1][which] - sums[index + 1 - width][which] for which in (0, 1))
                value = bad / every if hour else 1 - bad / every / float(slo.budget)
                yield f"{series}{{{labels}}} {value!r} {moments[index]}"


def counters(
    promises: ServiceSLOs, rates: Mapping[str, Rate], labels: str, start: float, end: float, step: int = 15
) -> Iterator[str]:
    """What the service itself counted, and that it was up."""
    moments = range(int(start - start % step), int(end) + 1, step)
    yield "# TYPE up gauge"
    yield from (f"up{{{labels}}} 1 {at}" for at in moments)
    yield "# TYPE connectsoft_slo_events counter"
    for promise, rate in rates.items():
        for outcome in ("good", "bad"):
            total = 0.0
            for at in moments:
                every, bad = rate(at)
                total += step * (bad if outcome == "bad" else every - bad)
                yield (
                    f'connectsoft_slo_events_total{{{labels},connectsoft_slo_name="{promise}",'
                    f'connectsoft_slo_outcome="{outcome}"}} {total!r} {at}'
                )


@contextmanager
def remembering(
    promises: ServiceSLOs,
    history: Sequence[str],
    *,
    targets: Sequence[str] = (),
    alertmanager: str = "",
    scrape: str = "1s",
) -> Iterator[Prometheus]:
    """Prometheus with the generated rules of a service, and a past."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "past.txt").write_text("\n".join([*history, "# EOF\n"]))
        if history:
            subprocess.run(
                [
                    program("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=2000h", "openmetrics", "-q",
                    "past.txt", "data",
                ],
                cwd=place, check=True, capture_output=True, timeout=120,
            )  # fmt: skip
        (place / "rules.yaml").write_text(rules_file(promises))
        config = {
            "global": {"scrape_interval": scrape, "evaluation_interval": scrape, "scrape_timeout": scrape},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": promises.service, "static_configs": [{"targets": list(targets)}]}],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (place / "prometheus.yaml").write_text(json.dumps(config))
        command = [
            program("prometheus"),
            f"--config.file={place / 'prometheus.yaml'}",
            f"--storage.tsdb.path={place / 'data'}",
            "--storage.tsdb.retention.time=400d",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running(command, port):
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_for(lambda: httpx.get(f"{found.url}/-/ready", timeout=5).status_code == 200, 20)
            yield found
