"""Files with wrong types and values: each is rejected with its table, its key and what is expected."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.process import uvicorn

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.slo.loader import load
from connectsoft_obs.slo.serialization import from_dict

VALID: dict[str, Any] = {
    "service": {"name": "a", "team": "b", "source": "events", "period": "30d", "always_on": True},
    "prometheus": {"interval": "30s", "retention": "60d"},
    "policy": {
        "review_at": [50, 0],
        "min_remaining": 10,
        "unknown": "pass",
        "reviewed": "2026-10-01",
        "review_every": "90d",
    },
    "slo": [
        {
            "name": "latency",
            "objective": 99,
            "sli": {"kind": "latency", "threshold": "500ms", "routes": ["/x"], "methods": ["GET"]},
            "alerting": {"min_bad_events": 3, "hard_down": True, "severity": "Sev2"},
            "traffic": 1.5,
        },
        {"name": "p95", "sli": {"kind": "percentile", "quantile": 0.95, "threshold": "1s"}},
        {"name": "fresh", "objective": 99, "sli": {"kind": "freshness", "within": "1h", "job": "j"}},
        {"name": "outage", "sli": {"kind": "outage_limit", "limit": "5m", "allowed": 1, "outage_when": 0.5}},
        {
            "name": "ratio",
            "objective": 99,
            "sli": {"kind": "ratio", "bad": "sum(rate(a[{window}]))", "total": "sum(rate(b[{window}]))"},
        },
    ],
    "composite": [{"name": "all", "all_of": ["latency", "p95"]}],
}

HEADER = '[service]\nname = "orders-api"\n'
SLO = HEADER + '[[slo]]\nname = "a"\n'

WRONG_FILES = {
    "percentage as text": (SLO + 'objective = "99.9%"\nsli = { kind = "http_availability" }', "objective = '99.9%' in [[slo]] 'a'"),
    "fraction": (SLO + 'objective = 0.999\nsli = { kind = "http_availability" }', "not a fraction"),
    "not a number": (SLO + 'objective = nan\nsli = { kind = "http_availability" }', "objective = nan"),
    "infinite": (SLO + 'objective = 99\ntraffic = inf\nsli = { kind = "http_availability" }', "traffic = inf"),
    "boolean": (SLO + 'objective = true\nsli = { kind = "http_availability" }', "objective = True"),
    "one bracket": (HEADER + '[slo]\nname = "a"\nobjective = 99\nsli = { kind = "http_availability" }', "[[slo]]"),
    "boolean as text": (
        SLO + 'objective = 99\nsli = { kind = "http_availability" }\nalerting = { hard_down = "false" }',
        "hard_down = 'false' in alerting of [[slo]] 'a'",
    ),
    "negative count": (
        SLO + 'objective = 99\nsli = { kind = "http_availability" }\nalerting = { min_bad_events = -1 }',
        "at least 1",
    ),
    "route without a slash": (SLO + 'objective = 99\nsli = { kind = "http_availability", routes = ["orders"] }', "begins with /"),
    "list as text": (SLO + 'objective = 99\nsli = ["http_availability"]', "sli = ['http_availability']"),
    "kind as list": (SLO + "objective = 99\nsli = { kind = [1] }", "there is no such kind"),
    "unknown key": (SLO + 'objectve = 99\nsli = { kind = "http_availability" }', "objectve in [[slo]]"),
    "unknown table": (HEADER + "[slos]", "slos in the file"),
    "key of another kind": (SLO + 'objective = 99\nsli = { kind = "http_availability", within = "1h" }', "within in the http_availability"),
    "date": (SLO + 'objective = 1979-05-27\nsli = { kind = "http_availability" }', "objective = datetime.date"),
}  # fmt: skip


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if prefix:
        yield prefix
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*prefix, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*prefix, index))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(list(paths(VALID))), VALUES)
def test_any_value_of_any_key_is_accepted_or_a_configuration_error(path: tuple[Any, ...], value: Any) -> None:
    content = copy.deepcopy(VALID)
    table: Any = content
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    with suppress(obs.ConfigurationError):
        from_dict(content)


def test_complete_file_is_accepted() -> None:
    assert len(from_dict(VALID).slos) == 5


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_file_is_rejected_with_table_key_and_expectation(name: str, tmp_path: Path) -> None:
    text, expected = WRONG_FILES[name]
    file = tmp_path / "slo.toml"
    file.write_text(text)
    with pytest.raises(obs.ConfigurationError) as raised:
        load(file)
    assert expected in str(raised.value)
    assert str(file) in raised.value.given


@pytest.mark.parametrize("key", ["routes", "methods", "bad_status"])
def test_one_value_where_several_are_allowed_is_a_list_of_one(key: str) -> None:
    value = {"routes": "/connect/token", "methods": "GET", "bad_status": "429"}[key]
    content = {
        "service": {"name": "a"},
        "slo": [{"name": "b", "objective": 99, "sli": {"kind": "http_availability", key: value}}],
    }
    several = copy.deepcopy(content)
    several["slo"][0]["sli"][key] = [value]  # type: ignore[index]
    assert from_dict(content) == from_dict(several)
    arguments: Any = {key: value}
    several_arguments: Any = {key: [value]}
    assert slo.availability("b", 99, **arguments) == slo.availability("b", 99, **several_arguments)


@pytest.mark.parametrize("objective", ["99.9%", "99.9", math.nan, [99], None, True])
def test_objective_of_a_wrong_type_in_python_is_rejected(objective: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="Write a percentage"):
        slo.availability("a", objective)


def test_wrong_type_in_the_file_prevents_the_start(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(WRONG_FILES["percentage as text"][0])
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_SLO_FILE": str(file)}) as service:
        assert service.process.wait(15) != 0
        assert "objective = '99.9%' in [[slo]] 'a'" in service.output
