"""What a scraper reads: Prometheus text 0.0.4 and OpenMetrics 1.0.

Written by hand because the general writer costs 7 to 15 us a series, which at 10,000 series holds the GIL for 100 ms
(tests/bench/scrape.py). What does not change of a series, its names and labels, is prepared once as a template and kept.
The general parsers read every page back in tests/metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate

from connectsoft_obs.signals.metrics.exemplars import Exemplar
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Instrument, Metric, prometheus_name, unit_word

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_KEPT = 20_000
_KINDS = {Instrument.COUNTER: "counter", Instrument.HISTOGRAM: "histogram"}
Pause = Callable[[], None]


class Exposition:
    """Writes families in one of the two formats. Used by one thread at a time.

    Args:
        openmetrics: OpenMetrics, else text.
    """

    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._templates: dict[str, tuple[Metric, dict[tuple[str, ...], str]]] = {}

    def families(self, snapshots: Iterable[Snapshot], pause: Pause) -> list[str]:
        """The families one after the other, each as one text, without OpenMetrics' end mark."""
        return [self._family(snapshot, pause) for snapshot in snapshots if snapshot.series]

    def _family(self, snapshot: Snapshot, pause: Pause) -> str:
        metric, family = snapshot.metric, snapshot.metric.family
        known, templates = self._templates.get(family, (metric, {}))
        if known != metric or len(templates) > _KEPT:  # another definition; or series that came and went
            templates = {}
        self._templates[family] = (metric, templates)
        lines = [self._head(metric, family)]
        histogram = metric.instrument is Instrument.HISTOGRAM
        for labels, content in snapshot.series.items():
            pause()
            template = templates.get(labels)
            if template is None:
                template = templates[labels] = self._prepared(metric, family, labels)
            if histogram:
                lines.append(template % self._distribution(content))
            elif metric.instrument is Instrument.STATE:
                lines.append(template % tuple(int(position == content) for position in range(len(metric.states))))
            else:
                lines.append(template % number(content))
        return "".join(lines)

    def _head(self, metric: Metric, family: str) -> str:
        name = f"{family}_total" if metric.instrument is Instrument.COUNTER and not self._openmetrics else family
        head = f"# HELP {name} {escape_help(metric.help)}\n# TYPE {name} {_KINDS.get(metric.instrument, 'gauge')}\n"
        unit = unit_word(metric.unit)
        return f"{head}# UNIT {name} {unit}\n" if self._openmetrics and unit else head

    def _prepared(self, metric: Metric, family: str, values: tuple[str, ...]) -> str:
        names = [prometheus_name(label) for label in metric.labels]
        if metric.instrument is Instrument.STATE:
            # A state's cell holds its position in order of severity; a scraper sees one series a state.
            states = [_braces(_labels(names, (*values, state))) for state in metric.states]
            return "".join([f"{family}{_fixed(braces)} %d\n" for braces in states])
        if metric.instrument is Instrument.HISTOGRAM:
            return self._histogram(metric, family, _labels(names, values))
        suffix = "_total" if metric.instrument is Instrument.COUNTER else ""
        return f"{family}{suffix}{_fixed(_braces(_labels(names, values)))} %s\n"

    def _histogram(self, metric: Metric, family: str, labels: str) -> str:
        start = _fixed(f'{family}_bucket{{{labels}{"," if labels else ""}le="')
        count = "%d%s" if self._openmetrics else "%d"
        edges = [*map(number, metric.buckets), "+Inf"]
        braces = _fixed(_braces(labels))
        buckets = [f'{start}{edge}"}} {count}\n' for edge in edges]
        return "".join([*buckets, f"{family}_count{braces} %d\n{family}_sum{braces} %s\n"])

    def _distribution(self, content: HistogramData) -> tuple[object, ...]:
        cells = content.cells
        running = list(accumulate(cells[1:]))
        if not self._openmetrics:
            return (*running, running[-1], number(cells[0]))
        marks = [""] * len(running)
        if content.marks:
            marks = ["" if found is None else _exemplar(found) for found in content.exemplars]
        paired = [item for pair in zip(running, marks, strict=True) for item in pair]
        return (*paired, running[-1], number(cells[0]))


def info(name: str, help_: str, labels: dict[str, str], openmetrics: bool) -> str:
    """An info metric such as `target_info`: one series of value 1 whose labels are the information."""
    kind = f"# TYPE {name} info\n" if openmetrics else f"# TYPE {name}_info gauge\n"
    content = _labels([prometheus_name(label) for label in labels], list(labels.values()))
    return f"# HELP {name}{'' if openmetrics else '_info'} {help_}\n{kind}{name}_info{_braces(content)} 1.0\n"


def restricted(family: str, names: Collection[str]) -> str:
    """Of a family's text what `name[]=` asks for: all of it by the family's name, or the samples with one of the names."""
    lines = family.splitlines(keepends=True)
    head = [line for line in lines if line.startswith("# ")]
    if any(line.split(" ", 3)[2] in names for line in head):
        return family
    found = [line for line in lines if line[:2] != "# " and line.partition("{")[0].partition(" ")[0] in names]
    return "".join([*head, *found]) if found else ""


def _exemplar(exemplar: Exemplar) -> str:
    ids = f'trace_id="{exemplar.trace_id:032x}",span_id="{exemplar.span_id:016x}"'
    return f" # {{{ids}}} {number(exemplar.value)} {exemplar.when:.3f}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join([f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=False) if value])


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _fixed(text: str) -> str:
    """Text of a template that is no place for a value."""
    return text.replace("%", "%%")


def number(value: float) -> str:
    """A number as Prometheus' own client writes it."""
    if value == float("inf"):
        return "+Inf"
    return "-Inf" if value == float("-inf") else "NaN" if value != value else repr(float(value))


def escape(value: str) -> str:
    """A label value."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def escape_help(value: str) -> str:
    """A help text."""
    return value.replace("\\", r"\\").replace("\n", r"\n")
