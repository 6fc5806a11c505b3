"""Declaring: what is refused and how that is said, and that Python and files are the same promises."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.slo import durations
from connectsoft_obs.slo.loader import load, resolve_source, to_toml
from connectsoft_obs.slo.model import Source
from connectsoft_obs.slo.serialization import from_dict as from_tables
from connectsoft_obs.vocabulary import Severity


def one(*slos: slo.SLO, **more: object) -> slo.ServiceSLOs:
    return slo.ServiceSLOs(service="shop", slos=slos, **more)  # type: ignore[arg-type]


EVERYTHING = one(
    slo.availability("api", 99.9, routes=["/a/{id}", "/b"], methods=["post"], bad_status=["429"], traffic=12.5),
    slo.latency("fast", 99, under="250ms", errors="bad", description="Quick."),
    slo.percentile("p95", 0.95, under=0.5, owner="web"),
    slo.job_success_rate(
        "runs", 95, job="nightly", alerting=slo.Alerting(min_bad_events=5, wide=False, severity=Severity.SEV3)
    ),
    slo.message_success_rate("ingest", 99, within="5s", destination="audit", errors="apart"),
    slo.message_success_rate("theirs", 99, within=2, instrument="other.duration"),
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


def test_a_file_and_python_are_the_same_promises(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(to_toml(EVERYTHING))
    assert load(tmp_path / "slo.toml") == EVERYTHING


def test_a_pyproject_has_them_in_a_table_of_its_own(tmp_path: Path) -> None:
    lines = to_toml(EVERYTHING).replace("[[", "[[tool.connectsoft_obs.").replace("\n[s", "\n[tool.connectsoft_obs.s")
    for name in ("service", "prometheus", "policy"):
        lines = lines.replace(f"[{name}]", f"[tool.connectsoft_obs.{name}]")
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n\n{lines}')
    assert load(tmp_path / "pyproject.toml") == EVERYTHING


def test_they_are_found_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_promises.py").write_text(
        "from connectsoft_obs import slo\nLIST = [slo.availability('api', 99.9)]\n"
        "ALL = slo.ServiceSLOs(service='shop', slos=tuple(LIST))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert resolve_source("shop_promises:ALL") == resolve_source("shop_promises:LIST", "shop")
    with pytest.raises(obs.ConfigurationError, match="Name the service"):
        resolve_source("shop_promises:LIST")
    with pytest.raises(obs.ConfigurationError, match="cannot be imported"):
        resolve_source("shop_promises:NOTHING")


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_any_text_survives_the_file(text: str) -> None:
    made = one(slo.availability("api", 99.9, description=text, owner=text))
    assert from_tables(tomllib.loads(to_toml(made))) == made


@pytest.mark.parametrize("objective", [0, 100, 100.0, -1, 101, math.nan, math.inf])
def test_an_objective_without_a_budget_is_refused(objective: float) -> None:
    with pytest.raises(obs.ConfigurationError, match="leaves no budget"):
        slo.availability("api", objective)


def test_a_threshold_between_two_boundaries_of_somebody_elses_histogram_is_refused() -> None:
    with pytest.raises(obs.ConfigurationError, match=r"no bucket boundary there.*Use 0\.25 s or 0\.5 s") as raised:
        one(slo.latency("fast", 99, under="300ms"), source=Source.METRICS)
    assert "never see data" in raised.value.why
    assert one(slo.latency("fast", 99, under="300ms")).slos, "a service that declares it gets the boundary"
    assert one(slo.latency("fast", 99, under="500ms"), source=Source.METRICS).slos


def test_boundaries_that_somebody_else_has_can_be_told() -> None:
    own = slo.indicators.Events(threshold=0.3, errors=slo.indicators.Errors.SEPARATE, boundaries=(0.1, 0.3))
    assert one(slo.SLO(name="fast", objective=99, sli=own), source=Source.METRICS).slos


@pytest.mark.parametrize("names", [("api", "api"), ("api", "API"), ("a-b", "a.b"), ("a-b", "ab")])
def test_names_that_are_one_to_azure_or_in_alerts_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(obs.ConfigurationError, match="one name to Azure"):
        one(*(slo.availability(name, 99) for name in names))


@pytest.mark.parametrize("period", ["6d", "7d1h", "367d", "12h"])
def test_a_period_that_windows_do_not_fit_into_is_refused(period: str) -> None:
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
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="latency", threshold="soon"}', "not a length"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="latency", threshold=0}', "not above zero"),
        ('[service]\nname="a"\nsource="luck"', "there is no such word"),
        ('[service]\nname="a b"', "letters, digits"),
        ('[service]\nname="a"\n[prometheus]\ninterval="7s"', "which it must divide"),
        ('[service]\nname="a"\n[policy]\nreview_at=[150]', "not percentages"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="outage_limit", limit="5m"}', "no percentage"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nsli={kind="outage_limit", limit="1m"}', "after the limit"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="freshness", within="1h"}', "one of the two"),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="ratio", bad="x", total="y"}', "no {window}"),
        (
            '[service]\nname="a"\n[[slo]]\nname="b"\nobjective=99\nsli={kind="percentile", quantile=0.95, threshold="1s"}',
            "already says 95 %",
        ),
        ('[service]\nname="a"\n[[slo]]\nname="b"\nsli={kind="percentile", quantile=95, threshold="1s"}', "between 0 and 1"),
        ('[service]\nname="a"\n[[composite]]\nname="b"\nall_of=["c"]', "not several"),
        ('[service]\nname="a"\n[[composite]]\nname="b"\nall_of=["c", "d"]', "no such promise"),
        ('service="a"', "not a table"),
        ("not toml", "it is not TOML"),
        ("", "it promises nothing"),
    ],
)  # fmt: skip
def test_what_cannot_work_says_what_was_given_why_and_what_to_do(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "slo.toml").write_text(text)
    with pytest.raises(obs.ConfigurationError) as raised:
        load(tmp_path / "slo.toml")
    assert why in raised.value.why, raised.value
    assert raised.value.given
    assert raised.value.instead


def test_a_key_that_is_nearly_right_is_named(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text('[service]\nname = "a"\nrunbok_base = "x"\n')
    with pytest.raises(obs.ConfigurationError, match="Did you mean runbook_base"):
        load(tmp_path / "slo.toml")


@given(st.integers(1, 40 * 86400))
def test_lengths_of_time_come_back(seconds: int) -> None:
    assert durations.seconds(durations.prometheus(seconds), "x") == seconds


@pytest.mark.parametrize(
    ("seconds", "prometheus", "iso", "spoken"),
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
def test_lengths_of_time_are_written_as_each_reader_has_them(
    seconds: float, prometheus: str, iso: str, spoken: str
) -> None:
    assert (durations.prometheus(seconds), durations.iso(seconds), durations.humanize(seconds)) == (
        prometheus,
        iso,
        spoken,
    )


def test_words_may_be_given_as_text_and_others_are_refused() -> None:
    made = slo.ServiceSLOs(service="x", slos=(), source="metrics")  # type: ignore[arg-type]
    assert made.source is slo.Source.METRICS
    assert slo.Alerting(severity="Sev2").severity is Severity.SEV2  # type: ignore[arg-type]
    for wrong in (
        lambda: slo.ServiceSLOs(service="x", slos=(), source="logs"),  # type: ignore[arg-type]
        lambda: slo.Alerting(severity="Sev9"),  # type: ignore[arg-type]
        lambda: slo.latency("x", 99, under=1, errors="ignored"),
    ):
        with pytest.raises(obs.ConfigurationError, match="no such word"):
            wrong()


def test_budgets_are_exact_decimals() -> None:
    assert str(slo.availability("a", 99.9).budget) == "0.001"
    assert str(slo.availability("a", 99.99).budget) == "0.0001"
    assert "noise" not in str(slo.availability("a", 99.95).budget)
