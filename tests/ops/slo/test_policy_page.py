"""The error budget policy as a page states what the gate decides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.cli import run_slo_command

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.diff import find_changes
from connectsoft_obs.ops.slo.report import budget as budgets
from connectsoft_obs.ops.slo.report.budget import BudgetStatus, budget_state
from connectsoft_obs.ops.slo.report.gate import evaluate_gate
from connectsoft_obs.ops.slo.target_registry import generate_files
from connectsoft_obs.vocabulary import Severity

TOML = """
[service]
name = "shop"
team = "sales"

[policy]
min_remaining = 10
unknown = "pass"
approver = "head of operations"
reviewed = "2026-10-01"
review_every = "30d"

[[slo]]
name = "api"
objective = 99.9
sli = { kind = "http_availability" }
"""


def decisions(service_slos: slo.ServiceSLOs) -> dict[str, tuple[str, str]]:
    """Return state and decision of each condition on the page."""
    [page] = generate_files("policy", [service_slos]).values()
    rows = re.findall(r"^\| (.+?) \| (\w+) \| (stopped|permitted) \|$", page, re.MULTILINE)
    return {condition: (state, decision) for condition, state, decision in rows}


def test_policy_page_has_objectives_decisions_and_review_dates(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(TOML)
    completed = run_slo_command("generate", "-t", "policy", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    page = (tmp_path / "shop.policy.md").read_text()
    for text in (
        "99.9 % of requests succeed", "43 min 12 s of a total outage", "| api | Sev1 | 1h",
        "permitted by head of operations", "Last review: 2026-10-01. Next review: 2026-10-31.", "requires a postmortem",
    ):  # fmt: skip
        assert text in page
    assert slo.load(tmp_path / "slo.toml").policy == slo.ErrorBudgetPolicy(
        min_remaining=10, unknown="pass", approver="head of operations", reviewed="2026-10-01", review_every=30 * 86400
    )


def test_policy_page_has_the_budget_of_each_kind_and_no_disabled_alert() -> None:
    service_slos = slo.ServiceSLOs(
        service="shop",
        slos=(
            slo.availability("api", 99.9),
            slo.freshness("prices", 99, job="sync", within="2h"),
            slo.outage("outage", limit="5m", alerting=slo.Alerting(disable=("page",))),  # type: ignore[arg-type]
        ),
    )
    [page] = generate_files("policy", [service_slos]).values()
    assert "| 0.1 % of events, 43 min 12 s of a total outage |" in page
    assert "| 1 % of the time, 7 h 12 min of a total outage |" in page
    assert "| outage of 2 min |" not in page


def test_a_review_after_the_year_9999_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="review_every"):
        slo.ErrorBudgetPolicy(reviewed="2026-10-01", review_every=1e12)


@pytest.mark.parametrize("min_remaining", [0, 7, 10, 60])  # 0.07 * 100 is above 7 in floating-point numbers
@pytest.mark.parametrize("unknown", ["fail", "pass"])
def test_policy_page_and_gate_agree(min_remaining: float, unknown: str) -> None:
    service_slos = slo.ServiceSLOs(
        service="shop",
        slos=(slo.availability("api", 99.9),),
        policy=slo.ErrorBudgetPolicy(min_remaining=min_remaining, unknown=unknown),
    )
    page = decisions(service_slos)
    for condition, remaining in (
        ("the error budget is used up", 0.0),
        (f"{min_remaining} % of the error budget or less is left", min_remaining / 100),
        ("50 % of the error budget or less is left", 0.5),
        ("more is left", 1.0),
        ("there never was data", None),
    ):
        if condition in page:
            status = BudgetStatus(budget_state(service_slos, remaining), {}, remaining, None, None, None, None)
            passes = evaluate_gate(service_slos, "shop-api", status).passes
            assert page[condition] == (status.state, "permitted" if passes else "stopped")
    assert (f"{min_remaining} % of the error budget or less is left" in page) == (min_remaining > 0)
    if min_remaining:
        assert page[f"{min_remaining} % of the error budget or less is left"][1] == "stopped"
    assert page["there never was data"][1] == ("permitted" if unknown == "pass" else "stopped")


def test_a_weaker_policy_is_reported() -> None:
    before = slo.ServiceSLOs(
        service="shop", slos=(slo.availability("api", 99.9),), policy=slo.ErrorBudgetPolicy(min_remaining=10)
    )
    after = before.replace(policy=slo.ErrorBudgetPolicy(unknown="pass", approver="pass"))
    changes = {change.field: change.weaker for change in find_changes(before, after)}
    assert changes == {"policy min remaining": True, "policy unknown": True, "policy approver": False}
    assert not any(change.weaker for change in find_changes(after, before))


def test_policy_page_follows_a_change_of_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    service_slos = slo.ServiceSLOs(service="shop", slos=(slo.availability("api", 99.9),))
    assert decisions(service_slos)["an alert of Sev2 fires"] == ("incident", "stopped")
    monkeypatch.setattr(budgets, "PAGING_SEVERITIES", (Severity.SEV1,))
    assert decisions(service_slos)["an alert of Sev2 fires"] == ("review", "permitted")
