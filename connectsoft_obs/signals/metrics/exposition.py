"""Exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.

prometheus_client's writer is not used because it takes 7 to 15 us per series, which at 10,000 series holds the GIL for 100 ms
(tests/bench/scrape.py). Names and labels of a series do not change, so they are formatted once, as a cached template.
tests/metrics parses every page with the official parsers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate

from connectsoft_obs.signals.metrics.exemplars import Exemplar
from connectsoft_obs.signals.metrics.families import Snapshot
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import Instrument, Metric, prometheus_name, unit_word

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_MAX_CACHED_TEMPLATES = 20_000
_METRIC_TYPES = {Instrument.COUNTER: "counter", Instrument.HISTOGRAM: "histogram"}
Pause = Callable[[], None]


class Exposition:
    """Formats families in one of the two formats. Used by one thread at a time.

    Args:
        openmetrics: whether to use OpenMetrics instead of Prometheus text.
    """

    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._templates: dict[str, tuple[Metric, dict[tuple[str, ...], str]]] = {}

    def format_families(self, snapshots: Iterable[Snapshot], pause: Pause) -> list[str]:
        """Format each family as one text, without the `# EOF` line of OpenMetrics."""
        return [self._format_family(snapshot, pause) for snapshot in snapshots if snapshot.series]

    def _format_family(self, snapshot: Snapshot, pause: Pause) -> str:
        metric, family = snapshot.metric, snapshot.metric.family
        cached_metric, templates = self._templates.get(family, (metric, {}))
        if cached_metric != metric or len(templates) > _MAX_CACHED_TEMPLATES:  # definition changed, or too many series
            templates = {}
        self._templates[family] = (metric, templates)
        lines = [self._header(metric, family)]
        is_histogram = metric.instrument is Instrument.HISTOGRAM
        for labels, content in snapshot.series.items():
            pause()
            template = templates.get(labels)
            if template is None:
                template = templates[labels] = self._build_template(metric, family, labels)
            if is_histogram:
                lines.append(template % self._histogram_values(content))
            elif metric.instrument is Instrument.STATE:
                lines.append(template % tuple(int(index == content) for index in range(len(metric.states))))
            else:
                lines.append(template % format_number(content))
        return "".join(lines)

    def _header(self, metric: Metric, family: str) -> str:
        name = f"{family}_total" if metric.instrument is Instrument.COUNTER and not self._openmetrics else family
        metric_type = _METRIC_TYPES.get(metric.instrument, "gauge")
        header = f"# HELP {name} {escape_help(metric.help)}\n# TYPE {name} {metric_type}\n"
        unit = unit_word(metric.unit)
        return f"{header}# UNIT {name} {unit}\n" if self._openmetrics and unit else header

    def _build_template(self, metric: Metric, family: str, values: tuple[str, ...]) -> str:
        names = [prometheus_name(label) for label in metric.labels]
        if metric.instrument is Instrument.STATE:
            # The cell of a state contains its position in order of severity; the page has one series per state.
            label_sets = [_braces(_format_labels(names, (*values, state))) for state in metric.states]
            return "".join([f"{family}{_escape_template(labels)} %d\n" for labels in label_sets])
        if metric.instrument is Instrument.HISTOGRAM:
            return self._build_histogram_template(metric, family, _format_labels(names, values))
        suffix = "_total" if metric.instrument is Instrument.COUNTER else ""
        return f"{family}{suffix}{_escape_template(_braces(_format_labels(names, values)))} %s\n"

    def _build_histogram_template(self, metric: Metric, family: str, labels: str) -> str:
        start = _escape_template(f'{family}_bucket{{{labels}{"," if labels else ""}le="')
        count = "%d%s" if self._openmetrics else "%d"
        bounds = [*map(format_number, metric.buckets), "+Inf"]
        label_set = _escape_template(_braces(labels))
        buckets = [f'{start}{bound}"}} {count}\n' for bound in bounds]
        return "".join([*buckets, f"{family}_count{label_set} %d\n{family}_sum{label_set} %s\n"])

    def _histogram_values(self, content: HistogramData) -> tuple[object, ...]:
        cells = content.cells
        cumulative = list(accumulate(cells[1:]))
        if not self._openmetrics:
            return (*cumulative, cumulative[-1], format_number(cells[0]))
        exemplars = [""] * len(cumulative)
        if content.encoded_exemplars:
            exemplars = ["" if exemplar is None else _format_exemplar(exemplar) for exemplar in content.exemplars]
        bucket_values = [item for pair in zip(cumulative, exemplars, strict=True) for item in pair]
        return (*bucket_values, cumulative[-1], format_number(cells[0]))


def format_info(name: str, help_: str, labels: dict[str, str], openmetrics: bool) -> str:
    """Format an info metric such as `target_info`: one series with value 1, whose labels contain the information."""
    type_line = f"# TYPE {name} info\n" if openmetrics else f"# TYPE {name}_info gauge\n"
    label_set = _braces(_format_labels([prometheus_name(label) for label in labels], list(labels.values())))
    return f"# HELP {name}{'' if openmetrics else '_info'} {help_}\n{type_line}{name}_info{label_set} 1.0\n"


def filter_samples(family: str, names: Collection[str]) -> str:
    """Filter the text of a family by `name[]`: all of it for the name of the family, otherwise the samples with a name."""
    lines = family.splitlines(keepends=True)
    header = [line for line in lines if line.startswith("# ")]
    if any(line.split(" ", 3)[2] in names for line in header):
        return family
    samples = [line for line in lines if line[:2] != "# " and line.partition("{")[0].partition(" ")[0] in names]
    return "".join([*header, *samples]) if samples else ""


def _format_exemplar(exemplar: Exemplar) -> str:
    ids = f'trace_id="{exemplar.trace_id:032x}",span_id="{exemplar.span_id:016x}"'
    return f" # {{{ids}}} {format_number(exemplar.value)} {exemplar.timestamp:.3f}"


def _format_labels(names: Sequence[str], values: Sequence[str]) -> str:
    labels = zip(names, values, strict=False)
    return ",".join([f'{name}="{escape_label_value(value)}"' for name, value in labels if value])


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escape_template(text: str) -> str:
    """Escape text for a template of the `%` operator."""
    return text.replace("%", "%%")


def format_number(value: float) -> str:
    """Format a number like prometheus_client."""
    if value == float("inf"):
        return "+Inf"
    return "-Inf" if value == float("-inf") else "NaN" if value != value else repr(float(value))


def escape_label_value(value: str) -> str:
    """Escape a label value."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def escape_help(value: str) -> str:
    """Escape a help text."""
    return value.replace("\\", r"\\").replace("\n", r"\n")
