"""Evaluates generated rules over synthetic series, by means of `promtool test rules`."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from connectsoft_obs.ops.slo.rule_groups import rule_groups
from connectsoft_obs.ops.slo.rules import PROMETHEUS_LIMITS, TargetLimits
from connectsoft_obs.ops.slo.targets.prometheus import groups_to_dicts
from connectsoft_obs.ops.slo.targets.yaml_writer import dump
from connectsoft_obs.slo import ServiceSLOs
from support.servers import program_path

_FAILURE = re.compile(r'expr: "(?P<expr>(?:[^"\\]|\\.)*)", time: (?P<time>[0-9a-z]+),\s+exp: nil\s+got: (?P<got>.*)')
_SAMPLE = re.compile(r"(\{(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*\}) ([^ ,]+)(?:, |$)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

Labels = tuple[tuple[str, str], ...]
Value = Callable[[float], float | str | None]
"""A series as a function of the seconds since the start: the value, None for no sample, or `"stale"` for its end."""


class RuleReplay:
    """The generated rules of a service, evaluated over synthetic series.

    Samples fall halfway between evaluations, because on a real server scrapes and evaluations do not coincide.

    Args:
        service_slos: the service.
        series: the value of each series, by selector.
        duration: seconds of data.
        scrape_interval: seconds between samples.
        evaluation_interval: seconds between evaluations.
        recorded: prefixes of the recorded series to evaluate; all rules and alerts by default.
        limits: limits of the target whose rules are evaluated.
    """

    def __init__(
        self,
        service_slos: ServiceSLOs,
        series: Mapping[str, Value],
        duration: float,
        *,
        scrape_interval: float = 30,
        evaluation_interval: float = 30,
        recorded: Sequence[str] = (),
        limits: TargetLimits = PROMETHEUS_LIMITS,
    ) -> None:
        groups = [
            dataclasses.replace(
                group,
                rules=tuple(rule for rule in group.rules if not recorded or rule.name.startswith(tuple(recorded))),
            )
            for group in rule_groups(service_slos, limits)
        ]
        self._rules = dump({"groups": groups_to_dicts([group for group in groups if group.rules])})
        self._input_series = [
            {"series": selector, "values": " ".join(_values(value, duration, scrape_interval))}
            for selector, value in series.items()
        ]
        self._scrape_interval = scrape_interval
        self._evaluation_interval = evaluation_interval
        self._duration = duration

    def evaluate(self, times: Iterable[float], expressions: Sequence[str]) -> list[list[dict[Labels, float]]]:
        """Return the samples of each expression at each time: values by labels."""
        times = list(times)
        # No samples are expected, so promtool reports those that it computed as failures.
        tests = [
            {"expr": expression, "eval_time": f"{round(time)}s", "exp_samples": []}
            for time in times
            for expression in expressions
        ]
        results: dict[tuple[int, str], dict[Labels, float]] = {
            (round(time), expression): {} for time in times for expression in expressions
        }
        for failure in self._run_promtool(tests):
            match = _FAILURE.search(failure)
            assert match, failure
            samples = {
                tuple(sorted(_LABEL.findall(labels))): float(value) for labels, value in _SAMPLE.findall(match["got"])
            }
            results[_seconds(match["time"]), json.loads(f'"{match["expr"]}"')] = samples
        return [[results[round(time), expression] for expression in expressions] for time in times]

    def value(self, expression: str, time: float | None = None) -> float | None:
        """Return the value of an expression with at most one series, at the end by default; None without a series."""
        [[samples]] = self.evaluate([self._duration if time is None else time], [expression])
        assert len(samples) <= 1, samples
        return next(iter(samples.values()), None)

    def firing_times(self, start: float = 0, stop: float | None = None) -> dict[str, list[float]]:
        """Return the evaluation times at which each alert fires, by alert name."""
        end = self._duration if stop is None else stop
        interval = self._evaluation_interval
        times = [start + index * interval for index in range(int((end - start) / interval) + 1)]
        firing: dict[str, list[float]] = {}
        for time, [samples] in zip(times, self.evaluate(times, ['ALERTS{alertstate="firing"}']), strict=True):
            for labels in samples:
                firing.setdefault(dict(labels)["alertname"], []).append(time)
        return firing

    def _run_promtool(self, tests: Sequence[Mapping[str, object]]) -> list[str]:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "rules.yaml").write_text(self._rules)
            document = {
                "rule_files": ["rules.yaml"],
                "evaluation_interval": f"{round(self._evaluation_interval * 1000)}ms",
                "tests": [
                    {
                        "interval": f"{round(self._scrape_interval * 500)}ms",
                        "input_series": self._input_series,
                        "promql_expr_test": tests,
                    }
                ],
            }
            (Path(directory) / "test.yaml").write_text(json.dumps(document))
            completed = subprocess.run(
                [program_path("promtool"), "test", "rules", str(Path(directory) / "test.yaml")],
                capture_output=True,
                text=True,
                timeout=300,
            )
        output = completed.stdout + completed.stderr
        assert "SUCCESS" in output or "exp: nil" in output, output
        return re.split(r"\n(?=    expr: )", output.partition("FAILED:")[2])[1:]


def _values(value_at: Value, duration: float, scrape_interval: float) -> Iterable[str]:
    for index in range(int(duration / scrape_interval) + 1):
        value = value_at((index + 0.5) * scrape_interval)
        yield "_"
        yield "_" if value is None else value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


def _seconds(text: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([wdhms])", text))


def counter(*phases: tuple[float, float], start: float = 0.0) -> Callable[[float], float]:
    """Return a counter that grows in phases of (seconds, rate per second); the last phase does not end."""

    def value_at(time: float) -> float:
        total, phase_start = start, 0.0
        for seconds, rate in phases[:-1]:
            total += rate * max(0.0, min(time - phase_start, seconds))
            phase_start += seconds
        return round(total + phases[-1][1] * max(0.0, time - phase_start), 6)

    return value_at


def event_counter(event_times: Sequence[float]) -> Callable[[float], float]:
    """Return a counter of events at these times, which must be sorted."""
    return lambda time: float(bisect_right(event_times, time))
