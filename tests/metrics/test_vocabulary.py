"""Metric definitions follow the naming rules, and equal those of the OpenTelemetry semantic conventions."""

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
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR

from connectsoft_obs.signals.metrics import validation
from connectsoft_obs.vocabulary import (
    CLOSED_LABELS,
    DIMENSIONS,
    METRICS,
    PLATFORM_INFO,
    PROCESS_METRICS,
    REPLACED_FAMILIES,
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


def _semconv_constants(kind: str) -> dict[str, Any]:
    """The constants of semconv's generated modules by value: whether it is stable, its module and its name."""
    constants: dict[str, Any] = {}
    for package, stable in (
        (f"opentelemetry.semconv._incubating.{kind}", False),
        (f"opentelemetry.semconv.{kind}", True),
    ):
        path = importlib.import_module(package).__path__
        for module in pkgutil.iter_modules(path):
            loaded = importlib.import_module(f"{package}.{module.name}")
            for name, value in vars(loaded).items():
                if name.isupper() and isinstance(value, str):
                    constants[value] = (stable, loaded, name)
    return constants


STANDARD_METRICS = _semconv_constants("metrics")
STANDARD_ATTRIBUTES = _semconv_constants("attributes")
CREATE_METHODS = {
    Instrument.COUNTER: "create_counter",
    Instrument.UPDOWN: "create_up_down_counter",
    Instrument.HISTOGRAM: "create_histogram",
}
STANDARD = [metric for metric in METRICS if not metric.name.startswith("connectsoft.")]
EACH_METRIC = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@EACH_METRIC
def test_name_is_standard_or_in_the_connectsoft_namespace(metric: Metric) -> None:
    assert metric.name in STANDARD_METRICS or metric.name.startswith("connectsoft.")
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", metric.name)
    for label in metric.labels:
        assert label in STANDARD_ATTRIBUTES or label.startswith("connectsoft."), label
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", label)


@EACH_METRIC
def test_name_is_not_a_namespace_of_other_names(metric: Metric) -> None:
    names = [other.name for other in METRICS]
    assert not [other for other in names if other.startswith(f"{metric.name}.")]
    attributes = {label for other in METRICS for label in other.labels} | set(DIMENSIONS.values())
    assert not [label for label in attributes if label.startswith(f"{metric.name}.")]


@EACH_METRIC
def test_name_contains_no_unit_total_or_ratio(metric: Metric) -> None:
    words = re.split(r"[._]", metric.name)
    assert not set(words) & ((set(UNIT_WORDS.values()) - {""}) | {"total", "ratio"})
    assert metric.family.endswith(unit_word(metric.unit))


@EACH_METRIC
def test_gauges_have_a_unit_and_states_have_unit_one(metric: Metric) -> None:
    if metric.instrument is Instrument.GAUGE:
        assert metric.unit != "1"
    assert bool(metric.states) == (metric.instrument is Instrument.STATE)
    if metric.states:
        assert metric.unit == "1"


@EACH_METRIC
def test_prometheus_name_equals_that_of_the_official_exporter(metric: Metric) -> None:
    expected = exporter.sanitize_full_name(metric.name)
    if unit := exporter.map_unit(metric.unit):
        expected = expected if expected.endswith(f"_{unit}") else f"{expected}_{unit}"
    assert metric.family == expected
    assert [prometheus_name(label) for label in metric.labels] == [
        exporter.sanitize_attribute(label) for label in metric.labels
    ]
    # Prometheus itself omits a unit that is already in the name, and removes `total` from the name.
    assert unit_word(metric.unit) not in re.split(r"[._]", metric.name) or not unit_word(metric.unit)


@EACH_METRIC
def test_labels_are_not_reserved_by_prometheus(metric: Metric) -> None:
    for label in map(prometheus_name, metric.labels):
        assert label not in {"job", "instance", "le", "quantile"}
        assert not label.startswith(("__", "exported_", "otel_scope_"))


@EACH_METRIC
def test_last_word_of_a_name_fits_the_instrument(metric: Metric) -> None:
    last = re.split(r"[._]", metric.name)[-1]
    exceptions = {"retries", "dropped", "overflow"}
    if metric.instrument is Instrument.COUNTER:
        assert last.endswith("s") or last in exceptions
    elif metric.instrument is Instrument.HISTOGRAM:
        assert last in ("duration", "lag", "size", "usage")
        assert list(metric.buckets) == sorted(set(metric.buckets))
    elif metric.instrument is Instrument.GAUGE:
        assert metric.name.endswith(".timestamp")
        assert metric.unit == "s"
    elif metric.instrument is Instrument.STATE:
        assert last == "status"


@EACH_METRIC
def test_labels_are_not_ids(metric: Metric) -> None:
    assert not [label for label in metric.labels if label.endswith((".id", "_id"))]
    assert not set(metric.labels) & set(DIMENSIONS.values())


@EACH_METRIC
def test_description_is_one_line_that_ends_with_a_period(metric: Metric) -> None:
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert len(set(metric.labels)) == len(metric.labels)


def test_family_names_are_unique() -> None:
    assert max(Counter(metric.family for metric in METRICS).values()) == 1


class RecordingMeter:
    """A meter that returns the arguments of the generated function."""

    def __getattr__(self, method: str) -> Any:
        return lambda **arguments: {"method": method, **arguments}


def _create_standard_instrument(name: str) -> dict[str, Any]:
    """The method and arguments with which semconv's generated function creates an instrument."""
    _, module, constant = STANDARD_METRICS[name]
    create = getattr(module, f"create_{constant.lower()}", None)
    if create is None:  # stable modules contain only names; incubating modules contain the functions too
        module = importlib.import_module(module.__name__.replace(".metrics.", "._incubating.metrics."))
        create = getattr(module, f"create_{constant.lower()}")
    created: dict[str, Any] = create(RecordingMeter())
    return created


@pytest.mark.parametrize("metric", STANDARD, ids=lambda metric: metric.name)
def test_standard_metric_equals_the_semantic_convention(metric: Metric) -> None:
    created = _create_standard_instrument(metric.name)
    assert created["method"] == CREATE_METHODS[metric.instrument]
    assert created["unit"] == metric.unit
    assert created["description"] == metric.help


def test_request_duration_is_stable_and_has_the_14_advised_buckets() -> None:
    assert STANDARD_METRICS[REQUEST_DURATION.name][0]
    assert REQUEST_DURATION.buckets == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def test_schema_url_is_that_of_the_installed_semconv() -> None:
    assert SCHEMA_URL in {schema.value for schema in Schemas}
    assert SCHEMA_URL.endswith("/1.44.0")


def test_fallback_error_type_is_that_of_the_convention() -> None:
    from opentelemetry.semconv.attributes.error_attributes import ErrorTypeValues

    assert ErrorType.OTHER.value in [error_type.value for error_type in ErrorTypeValues]


def test_each_label_is_either_bounded_or_unbounded() -> None:
    used = {label for metric in METRICS for label in metric.labels}
    assert used == (CLOSED_LABELS | UNBOUNDED_LABELS) & used
    assert not CLOSED_LABELS & UNBOUNDED_LABELS


def test_applications_cannot_use_namespaces_of_standard_metrics() -> None:
    incubating = importlib.import_module("opentelemetry.semconv._incubating.metrics").__path__
    namespaces = {module.name.removesuffix("_metrics") for module in pkgutil.iter_modules(incubating)}
    assert {namespace.partition(".")[0] for namespace in namespaces} <= validation._RESERVED_NAMESPACES
    assert {name.partition(".")[0] for name in STANDARD_METRICS} <= validation._RESERVED_NAMESPACES
    assert opentelemetry.semconv is not None


@pytest.mark.parametrize(
    ("unit", "word"),
    [
        ("s", "seconds"), ("ms", "milliseconds"), ("By", "bytes"), ("1", ""), ("", ""), ("{request}", ""),
        ("By/s", "bytes_per_second"), ("{request}/s", "per_second"), ("Cel", "celsius"), ("%", "percent"), ("m/s", "meters_per_second"),
        ("furlong", "furlong"), ("{a}{b}", ""),
    ],
)  # fmt: skip
def test_unit_words_equal_those_of_the_official_exporter(unit: str, word: str) -> None:
    assert unit_word(unit) == word
    assert exporter.map_unit(unit) == word


@pytest.mark.parametrize("metric", PROCESS_METRICS, ids=lambda metric: metric.name)
def test_process_metrics_are_standard_or_in_the_connectsoft_namespace(metric: Metric) -> None:
    if metric.name.startswith("connectsoft."):
        assert metric.name.removeprefix("connectsoft.") not in STANDARD_METRICS
    else:
        created = _create_standard_instrument(metric.name)
        assert (created["method"], created["unit"]) == (CREATE_METHODS[metric.instrument], metric.unit)


def test_process_metrics_have_the_families_of_prometheus_client_on_the_page() -> None:
    pages = {family.name: family for family in PROCESS_COLLECTOR.collect()}
    own = {metric.family: metric.help for metric in PROCESS_METRICS}
    assert own.pop("process_threads")
    assert own == {name: family.documentation for name, family in pages.items()}
    assert {"process_threads", *pages, *(family.name for family in GC_COLLECTOR.collect())} == REPLACED_FAMILIES
    assert [family.name for family in PLATFORM_COLLECTOR.collect()] == [PLATFORM_INFO]
