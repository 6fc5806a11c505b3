"""Numbers replayed through promtool: series in, the values that rules and alerts take at chosen moments out."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from connectsoft_obs.ops.slo.rule_groups import groups
from connectsoft_obs.ops.slo.targets.prometheus import as_tables
from connectsoft_obs.ops.slo.targets.yaml import dump
from connectsoft_obs.slo import ServiceSLOs
from support.servers import program

_FAILED = re.compile(r'expr: "(?P<expr>(?:[^"\\]|\\.)*)", time: (?P<time>[0-9a-z]+),\s+exp: nil\s+got: (?P<got>.*)')
_SAMPLE = re.compile(r"(\{(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*\}) ([^ ,]+)(?:, |$)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

Labels = tuple[tuple[str, str], ...]
Value = Callable[[float], float | str | None]


class Replay:
    """Rules of a service, evaluated over series that were made up.

    Scrapes happen half-way between evaluations, as on a real server they never coincide.

    Args:
        promises: whose rules.
        series: selector of each series, and its value at a number of seconds; None for no sample, `"stale"` for a
            target that is gone.
        length: seconds.
        scrape: seconds between samples.
        every: seconds between evaluations.
        only: names of the recorded series that matter; all of them, and the alerts, by default.
    """

    def __init__(
        self,
        promises: ServiceSLOs,
        series: Mapping[str, Value],
        length: float,
        *,
        scrape: float = 30,
        every: float = 30,
        only: Sequence[str] = (),
    ) -> None:
        chosen = [
            dataclasses.replace(
                group, rules=tuple(rule for rule in group.rules if not only or rule.name.startswith(tuple(only)))
            )
            for group in groups(promises)
        ]
        self._rules = dump({"groups": as_tables([group for group in chosen if group.rules])})
        self._inputs = [
            {"series": selector, "values": " ".join(_values(at, length, scrape))} for selector, at in series.items()
        ]
        self._scrape = scrape
        self._every = every
        self._length = length

    def at(self, moments: Iterable[float], expressions: Sequence[str]) -> list[list[dict[Labels, float]]]:
        """For each moment, what each expression is: the labels of its series, and their values."""
        times = list(moments)
        asked = [
            {"expr": expression, "eval_time": f"{round(moment)}s", "exp_samples": []}
            for moment in times
            for expression in expressions
        ]
        found: dict[tuple[int, str], dict[Labels, float]] = {
            (round(moment), expression): {} for moment in times for expression in expressions
        }
        for text in self._run(asked):
            match = _FAILED.search(text)
            assert match, text
            samples = {
                tuple(sorted(_LABEL.findall(labels))): float(value) for labels, value in _SAMPLE.findall(match["got"])
            }
            found[_seconds(match["time"]), json.loads(f'"{match["expr"]}"')] = samples
        return [[found[round(moment), expression] for expression in expressions] for moment in times]

    def value(self, expression: str, moment: float | None = None) -> float | None:
        """The one value of an expression, at the end unless said otherwise; None when it has none."""
        [[samples]] = self.at([self._length if moment is None else moment], [expression])
        assert len(samples) <= 1, samples
        return next(iter(samples.values()), None)

    def firing(self, since: float = 0, until: float | None = None) -> dict[str, list[float]]:
        """The moments at which each alert fires, by its name."""
        end = self._length if until is None else until
        moments = [since + index * self._every for index in range(int((end - since) / self._every) + 1)]
        fired: dict[str, list[float]] = {}
        for moment, [samples] in zip(moments, self.at(moments, ['ALERTS{alertstate="firing"}']), strict=True):
            for labels in samples:
                fired.setdefault(dict(labels)["alertname"], []).append(moment)
        return fired

    def _run(self, asked: Sequence[Mapping[str, object]]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "rules.yaml").write_text(self._rules)
            document = {
                "rule_files": ["rules.yaml"],
                "evaluation_interval": f"{round(self._every * 1000)}ms",
                "tests": [
                    {
                        "interval": f"{round(self._scrape * 500)}ms",
                        "input_series": self._inputs,
                        "promql_expr_test": asked,
                    }
                ],
            }
            (Path(folder) / "test.yaml").write_text(json.dumps(document))
            done = subprocess.run(
                [program("promtool"), "test", "rules", str(Path(folder) / "test.yaml")],
                capture_output=True,
                text=True,
                timeout=300,
            )
        said = done.stdout + done.stderr
        assert "SUCCESS" in said or "exp: nil" in said, said
        return re.split(r"\n(?=    expr: )", said.partition("FAILED:")[2])[1:]


def _values(at: Callable[[float], float | str | None], length: float, scrape: float) -> Iterable[str]:
    for index in range(int(length / scrape) + 1):
        moment = (index + 0.5) * scrape
        value = at(moment)
        yield "_"
        yield "_" if value is None else value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


def _seconds(text: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([wdhms])", text))


def counter(*parts: tuple[float, float], start: float = 0.0) -> Callable[[float], float]:
    """A counter that grows: (seconds, rate a second) one after the other, the last rate for ever."""

    def at(moment: float) -> float:
        total, begun = start, 0.0
        for seconds, rate in parts[:-1]:
            total += rate * max(0.0, min(moment - begun, seconds))
            begun += seconds
        return round(total + parts[-1][1] * max(0.0, moment - begun), 6)

    return at


def bursts(events: Sequence[float]) -> Callable[[float], float]:
    """A counter of events at given moments, which are sorted."""
    return lambda moment: float(bisect_right(events, moment))
