"""SLO declarations: Python and TOML are equivalent, and invalid values raise errors with a correction."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.slo import durations
from connectsoft_obs.slo.loader import load, resolve_source, to_toml
from connectsoft_obs.slo.model import Source
from connectsoft_obs.slo.serialization import from_dict
from connectsoft_obs.vocabulary import Severity


def declare(*slos: slo.SLO, **fields: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=slos, **fields)  # type: ignore[arg-type]


ALL_FIELDS = declare(
    slo.availability("api", 99.9, routes=["/a/{id}", "/b"], methods=["post"], bad_status=["429"], traffic=12.5),
    slo.latency("fast", 99, under="250ms", errors="bad", description="Quick."),
    slo.percentile("p95", 0.95, under=0.5, owner="web"),
    slo.job_success_rate(
        "runs", 95, job="nightly", alerting=slo.Alerting(min_bad_events=5, wide=False, severity=Severity.SEV3)
    ),
    slo.message_success_rate("ingest", 99, within="5s", destination="audit", errors="apart"),
    slo.message_success_rate("other", 99, within=2, instrument="other.duration"),
    slo.freshness("prices", 99, job="sync", within="26h"),
    slo.freshness("backup", 99, timestamp="backup_last_success_seconds", within="1d"),
    slo.outage("up", limit="10m", allowed=1, page_after="3m", outage_when=0.9),
    slo.ratio("mail", 98, bad='rate(bad{a="b"}[{window}])', total="rate(all[{window}])"),
    composites=(slo.all_of("all", "api", "p95", description="Both."),),
    source=Source.METRICS,
    selector='job="shop",cluster=~"eu-.*"',
    team="sales",
    period=28 * 86400,
    review_at=(40, 0),
    always_on=False,
    scraped=False,
    scrape_interval=15,
    interval=15,
    retention=40 * 86400,
    dashboard_base="https://grafana.example",
    runbook_base="https://runbooks.example",
)


def test_slos_are_equal_after_writing_and_loading_toml(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(to_toml(ALL_FIELDS))
    assert load(tmp_path / "slo.toml") == ALL_FIELDS


def test_slos_load_from_a_table_of_pyproject_toml(tmp_path: Path) -> None:
    lines = to_toml(ALL_FIELDS).replace("[[", "[[tool.connectsoft_obs.").replace("\n[s", "\n[tool.connectsoft_obs.s")
    for name in ("service", "prometheus", "policy"):
        lines = lines.replace(f"[{name}]", f"[tool.connectsoft_obs.{name}]")
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n\n{lines}')
    assert load(tmp_path / "pyproject.toml") == ALL_FIELDS


def test_slos_load_from_a_python_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_slos.py").write_text(
        "from connectsoft_obs import slo\nLIST = [slo.availability('api', 99.9)]\n"
        "ALL = slo.ServiceSLOs(service='shop', slos=tuple(LIST))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert resolve_source("shop_slos:ALL") == resolve_source("shop_slos:LIST", "shop")
    with pytest.raises(obs.ConfigurationError, match="Set the service name"):
        resolve_source("shop_slos:LIST")
    with pytest.raises(obs.ConfigurationError, match="cannot be imported"):
        resolve_source("shop_slos:NOTHING")


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_any_text_is_preserved_in_toml(text: str) -> None:
    service_slos = declare(slo.availability("api", 99.9, description=text, owner=text))
    assert from_dict(tomllib.loads(to_toml(service_slos))) == service_slos


@pytest.mark.parametrize("objective", [0, 100, 100.0, -1, 101, math.nan, math.inf])
def test_an_objective_without_an_error_budget_is_rejected(objective: float) -> None:
    with pytest.raises(obs.ConfigurationError, match="error budget would be empty"):
        slo.availability("api", objective)


def test_a_threshold_without_bucket_boundary_is_rejected_for_source_metrics() -> None:
    with pytest.raises(obs.ConfigurationError, match=r"no bucket boundary there.*Use 0\.25 s or 0\.5 s") as raised:
        declare(slo.latency("fast", 99, under="300ms"), source=Source.METRICS)
    assert "would have no data" in raised.value.why
    assert declare(slo.latency("fast", 99, under="300ms")).slos, "with source = events, the service adds the boundary"
    assert declare(slo.latency("fast", 99, under="500ms"), source=Source.METRICS).slos


def test_boundaries_of_another_histogram_can_be_declared() -> None:
    sli = slo.indicators.Events(threshold=0.3, errors=slo.indicators.Errors.SEPARATE, boundaries=(0.1, 0.3))
    assert declare(slo.SLO(name="fast", objective=99, sli=sli), source=Source.METRICS).slos


@pytest.mark.parametrize("names", [("api", "api"), ("api", "API"), ("a-b", "a.b"), ("a-b", "ab")])
def test_names_that_differ_only_in_case_or_punctuation_are_rejected(names: tuple[str, str]) -> None:
    with pytest.raises(obs.ConfigurationError, match="ignore case and punctuation"):
        declare(*(slo.availability(name, 99) for name in names))


@pytest.mark.parametrize("period", ["6d", "7d1h", "367d", "12h"])
def test_a_period_that_is_out_of_range_or_not_full_days_is_rejected(period: str) -> None:
    with pytest.raises(obs.ConfigurationError, match="from 7 to 366"):
        slo.availability("api", 99, period=period)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[service]\n[[slo]]\nname="a"\nobjective=99\nsli={kind="http_availability"}', "it has no name"),
        ('[service]\nname="a"\nteem="x"', "there is no such key"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99', "it has no sli"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="speed"}', "there is no such kind"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="latency"}', "it has no threshold"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="latency", threshold="soon"}', "not a duration"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="latency", threshold=0}', "not above zero"),
        ('[service]\nname="a"\nsource="luck"', "it is not one of events, metrics"),
        ('[service]\nname="a b"', "letters, digits"),
        ('[service]\nname="a"\n[prometheus]\ninterval="7s"', "must divide them"),
        ('[service]\nname="a"\n[policy]\nreview_at=[150]', "must be percentages"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="outage_limit", limit="5m"}', "no percentage"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nsli={kind="outage_limit", limit="1m"}', "after the limit"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="freshness", within="1h"}', "one of the two"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="ratio", bad="x", total="y"}', "no {window}"),
        (
            '[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="percentile", quantile=0.95, threshold="1s"}',
            "already sets 95 %",
        ),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nsli={kind="percentile", quantile=95, threshold="1s"}', "between 0 and 1"),
        (
            '[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\n'
            'sli={kind="latency", threshold="1s", instrument="connectsoft.message.wait.duration"}',
            "does not count its events",
        ),
        ('[service]\nname="a"\n[[composite]]\nname="b"\nall_of=["c"]', "needs several SLOs"),
        ('[service]\nname="a"\n[[composite]]\nname="b"\nall_of=["c", "d"]', "no such SLO"),
        ('service="a"', "not a table"),
        ("not toml", "it is not TOML"),
        ("", "it declares no SLOs"),
    ],
)  # fmt: skip
def test_error_of_an_invalid_declaration_has_value_reason_and_correction(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "slo.toml").write_text(text)
    with pytest.raises(obs.ConfigurationError) as raised:
        load(tmp_path / "slo.toml")
    assert why in raised.value.why, raised.value
    assert raised.value.given
    assert raised.value.instead


def test_a_misspelled_key_suggests_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text('[service]\nname = "a"\nrunbok_base = "x"\n')
    with pytest.raises(obs.ConfigurationError, match="Did you mean runbook_base"):
        load(tmp_path / "slo.toml")


@given(st.integers(1, 40 * 86400))
def test_formatted_durations_parse_to_the_same_value(seconds: int) -> None:
    assert durations.parse_duration(durations.format_prometheus(seconds), "x") == seconds


@pytest.mark.parametrize(
    ("seconds", "prometheus", "iso8601", "humanized"),
    [
        (0.5, "500ms", "PT0S", "500 ms"),
        (60, "1m", "PT1M", "1 min"),
        (330, "5m30s", "PT5M30S", "5 min 30 s"),
        (259.2, "4m19s200ms", "PT4M19S", "4 min 19 s"),
        (51.84, "51s840ms", "PT52S", "51.8 s"),
        (5400, "1h30m", "PT1H30M", "1 h 30 min"),
        (30 * 86400, "30d", "PT720H", "30 d"),
    ],
)
def test_durations_are_formatted_for_prometheus_iso8601_and_people(
    seconds: float, prometheus: str, iso8601: str, humanized: str
) -> None:
    assert durations.format_prometheus(seconds) == prometheus
    assert durations.format_iso8601(seconds) == iso8601
    assert durations.humanize(seconds) == humanized


def test_enum_fields_accept_their_values_as_text() -> None:
    assert slo.ServiceSLOs(service="x", slos=(), source="metrics").source is slo.Source.METRICS  # type: ignore[arg-type]
    assert slo.Alerting(severity="Sev2").severity is Severity.SEV2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "declare_invalid",
    [
        lambda: slo.ServiceSLOs(service="x", slos=(), source="logs"),  # type: ignore[arg-type]
        lambda: slo.Alerting(severity="Sev9"),  # type: ignore[arg-type]
        lambda: slo.latency("x", 99, under=1, errors="ignored"),
    ],
)
def test_enum_fields_reject_other_values(declare_invalid: Callable[[], object]) -> None:
    with pytest.raises(obs.ConfigurationError, match="not allowed"):
        declare_invalid()


def test_error_budgets_are_exact_decimals() -> None:
    assert str(slo.availability("a", 99.9).error_budget) == "0.001"
    assert str(slo.availability("a", 99.99).error_budget) == "0.0001"
    assert str(slo.availability("a", 99.95).error_budget) == "0.0005"
