"""One definition of each metric, kept to the naming rules, and to OpenTelemetry's own where it has one."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from typing import Any

import opentelemetry.semconv
import pytest
from opentelemetry.exporter.prometheus import _mapping as exporter
from opentelemetry.semconv.schemas import Schemas

from connectsoft_obs.signals.metrics import validation
from connectsoft_obs.vocabulary import (
    CLOSED_LABELS,
    DIMENSIONS,
    METRICS,
    PROCESS_CPU,
    REQUEST_DURATION,
    SCHEMA_URL,
    UNBOUNDED_LABELS,
    UNIT_WORDS,
    ErrorType,
    Instrument,
    Metric,
    prometheus_name,
    unit_word,
)


def _modules(kind: str) -> dict[str, Any]:
    """Constants of semconv's generated modules: their value, by whether they are stable."""
    found: dict[str, Any] = {}
    for package, stable in (
        (f"opentelemetry.semconv._incubating.{kind}", False),
        (f"opentelemetry.semconv.{kind}", True),
    ):
        path = importlib.import_module(package).__path__
        for module in pkgutil.iter_modules(path):
            loaded = importlib.import_module(f"{package}.{module.name}")
            for name, value in vars(loaded).items():
                if name.isupper() and isinstance(value, str):
                    found[value] = (stable, loaded, name)
    return found


STANDARD_METRICS = _modules("metrics")
STANDARD_ATTRIBUTES = _modules("attributes")
STANDARD = [metric for metric in METRICS if not metric.name.startswith("connectsoft.")]
EVERY = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@EVERY
def test_n1_a_name_is_standard_or_ours(metric: Metric) -> None:
    assert metric.name in STANDARD_METRICS or metric.name.startswith("connectsoft.")
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", metric.name)
    for label in metric.labels:
        assert label in STANDARD_ATTRIBUTES or label.startswith("connectsoft."), label
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", label)


@EVERY
def test_n2_no_name_is_both_a_leaf_and_a_namespace(metric: Metric) -> None:
    names = [other.name for other in METRICS]
    assert not [other for other in names if other.startswith(f"{metric.name}.")]
    attributes = {label for other in METRICS for label in other.labels} | set(DIMENSIONS.values())
    assert not [label for label in attributes if label.startswith(f"{metric.name}.")]


@EVERY
def test_n3_and_n5_no_unit_and_no_total_in_a_name(metric: Metric) -> None:
    words = re.split(r"[._]", metric.name)
    assert not set(words) & ((set(UNIT_WORDS.values()) - {""}) | {"total", "ratio"})
    assert metric.family.endswith(unit_word(metric.unit))


@EVERY
def test_n4_gauges_have_a_unit_and_states_are_up_down_counters(metric: Metric) -> None:
    if metric.instrument is Instrument.GAUGE:
        assert metric.unit != "1"
    assert bool(metric.states) == (metric.instrument is Instrument.STATE)
    if metric.states:
        assert metric.unit == "1"


@EVERY
def test_n6_the_prometheus_name_is_that_of_other_translators(metric: Metric) -> None:
    theirs = exporter.sanitize_full_name(metric.name)
    if unit := exporter.map_unit(metric.unit):
        theirs = theirs if theirs.endswith(f"_{unit}") else f"{theirs}_{unit}"
    assert metric.family == theirs
    assert [prometheus_name(label) for label in metric.labels] == [
        exporter.sanitize_attribute(label) for label in metric.labels
    ]
    # The translator inside Prometheus leaves a unit away that is in the name already, and takes `total` out of it.
    assert unit_word(metric.unit) not in re.split(r"[._]", metric.name) or not unit_word(metric.unit)


@EVERY
def test_n7_no_label_is_prometheus_own(metric: Metric) -> None:
    for label in map(prometheus_name, metric.labels):
        assert label not in {"job", "instance", "le", "quantile"}
        assert not label.startswith(("__", "exported_", "otel_scope_"))


@EVERY
def test_n8_the_grammar_of_a_name_says_its_instrument(metric: Metric) -> None:
    last = re.split(r"[._]", metric.name)[-1]
    irregular = {"retries", "dropped", "overflow"}  # past participles of design.md
    if metric.instrument is Instrument.COUNTER:
        assert last.endswith("s") or last in irregular
    elif metric.instrument is Instrument.HISTOGRAM:
        assert last in ("duration", "lag", "size", "usage")
        assert list(metric.buckets) == sorted(set(metric.buckets))
    elif metric.instrument is Instrument.GAUGE:
        assert metric.name.endswith(".timestamp")
        assert metric.unit == "s"
    elif metric.instrument is Instrument.STATE:
        assert last == "status"


@EVERY
def test_no_label_is_an_id(metric: Metric) -> None:
    assert not [label for label in metric.labels if label.endswith((".id", "_id"))]
    assert not set(metric.labels) & set(DIMENSIONS.values())


@EVERY
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert len(set(metric.labels)) == len(metric.labels)


def test_no_two_metrics_share_a_family() -> None:
    assert max(Counter(metric.family for metric in METRICS).values()) == 1


@pytest.mark.parametrize("metric", STANDARD, ids=lambda metric: metric.name)
def test_b07_a_standard_metric_is_as_opentelemetry_defines_it(metric: Metric) -> None:
    class Meter:
        """Takes down what the generated function asks for."""

        def __getattr__(self, create: str) -> Any:
            return lambda **arguments: {"create": create, **arguments}

    _, module, constant = STANDARD_METRICS[metric.name]
    made = getattr(module, f"create_{constant.lower()}", None)
    if made is None:  # stable modules have the names alone; the others have the functions too
        module = importlib.import_module(module.__name__.replace(".metrics.", "._incubating.metrics."))
        made = getattr(module, f"create_{constant.lower()}")
    asked = made(Meter())
    creates = {
        Instrument.COUNTER: "create_counter",
        Instrument.UPDOWN: "create_up_down_counter",
        Instrument.HISTOGRAM: "create_histogram",
    }
    assert asked["create"] == creates[metric.instrument]
    assert asked["unit"] == metric.unit
    assert asked["description"] == metric.help


def test_b07_the_request_duration_is_stable_and_has_the_fourteen_buckets() -> None:
    assert STANDARD_METRICS[REQUEST_DURATION.name][0]
    assert REQUEST_DURATION.buckets == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def test_b07_the_schema_is_the_one_that_the_names_come_from() -> None:
    assert SCHEMA_URL in {schema.value for schema in Schemas}
    assert SCHEMA_URL.endswith("/1.44.0")


def test_b07_the_other_error_is_that_of_the_convention() -> None:
    from opentelemetry.semconv.attributes.error_attributes import ErrorTypeValues

    assert ErrorType.OTHER.value in [word.value for word in ErrorTypeValues]


def test_open_and_closed_labels_are_all_labels() -> None:
    used = {label for metric in METRICS for label in metric.labels}
    assert used == (CLOSED_LABELS | UNBOUNDED_LABELS) & used
    assert not CLOSED_LABELS & UNBOUNDED_LABELS


def test_users_cannot_add_to_any_namespace_of_standard_metrics() -> None:
    incubating = importlib.import_module("opentelemetry.semconv._incubating.metrics").__path__
    spaces = {module.name.removesuffix("_metrics") for module in pkgutil.iter_modules(incubating)}
    assert {space.partition(".")[0] for space in spaces} <= validation._NAMESPACES
    assert {name.partition(".")[0] for name in STANDARD_METRICS} <= validation._NAMESPACES
    assert opentelemetry.semconv is not None


@pytest.mark.parametrize(
    ("unit", "word"),
    [
        ("s", "seconds"), ("ms", "milliseconds"), ("By", "bytes"), ("1", ""), ("", ""), ("{request}", ""),
        ("By/s", "bytes_per_second"), ("{request}/s", "per_second"), ("Cel", "celsius"), ("%", "percent"), ("m/s", "meters_per_second"),
        ("furlong", "furlong"), ("{a}{b}", ""),
    ],
)  # fmt: skip
def test_units_are_spelled_as_by_other_translators(unit: str, word: str) -> None:
    assert unit_word(unit) == word
    assert exporter.map_unit(unit) == word


def test_process_metrics_have_the_names_that_dashboards_know() -> None:
    assert PROCESS_CPU.family == "process_cpu_seconds"
