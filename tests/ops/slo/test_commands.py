"""The `connectsoft-obs slo` commands, run as separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import run_slo_command

from connectsoft_obs.slo.presets import PRESETS

SLO_FILE = """
[service]
name = "shop"
team = "sales"

[[slo]]
name = "api"
objective = 99.9
description = "People can buy."
sli = { kind = "http_availability" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(SLO_FILE)
    return tmp_path


def test_lint_passes_with_notes_and_fails_with_errors(project: Path) -> None:
    without_errors = run_slo_command("lint", cwd=project)
    assert (without_errors.returncode, "retention" in without_errors.stdout) == (0, True)
    (project / "slo.toml").write_text(
        SLO_FILE.replace('team = "sales"', 'team = "sales"\n[prometheus]\nretention = "15d"')
    )
    with_error = run_slo_command("lint", cwd=project)
    assert with_error.returncode == 1
    assert "Prometheus retains data for 15d, and the longest compliance period is 30d" in with_error.stdout
    assert run_slo_command("lint", "--ignore", "retention", cwd=project).returncode == 0
    findings = json.loads(run_slo_command("lint", "--json", cwd=project).stdout)
    assert {"level", "code", "subject", "message", "advice"} == findings[0].keys()


def test_lint_strict_fails_on_warnings(project: Path) -> None:
    (project / "slo.toml").write_text(SLO_FILE.replace('team = "sales"', ""))
    assert run_slo_command("lint", cwd=project).returncode == 0
    assert run_slo_command("lint", "--strict", cwd=project).returncode == 1


def test_explain_shows_when_alerts_fire(project: Path) -> None:
    output = run_slo_command("explain", "--name", "api", cwd=project).stdout
    assert "43 min 12 s of a total outage in 30 d" in output
    assert "51.8 s" in output


def test_generate_writes_all_targets_and_check_detects_changes(project: Path) -> None:
    assert run_slo_command("generate", "-t", "all", "-o", "out", cwd=project).returncode == 0
    names = {path.name for path in (project / "out").iterdir()}
    assert {
        "shop.rules.yaml", "shop.prometheusrule.yaml", "shop.bicep", "shop.arm.json", "alertmanager.yaml", "shop-api.md",
        "shop-red.dashboard.json", "shop-slo.dashboard.json", "shop.openslo.yaml", "shop-api.test.yaml",
    } <= names  # fmt: skip
    assert run_slo_command("generate", "-t", "all", "-o", "out", "--check", cwd=project).returncode == 0
    assert "unchanged" in run_slo_command("generate", "-t", "prometheus", "-o", "out", cwd=project).stdout
    rules = project / "out" / "shop.rules.yaml"
    rules.write_text(rules.read_text().replace("0.0144", "0.02"))
    drift = run_slo_command("generate", "-t", "all", "-o", "out", "--check", cwd=project)
    assert (drift.returncode, "shop.rules.yaml differs from its declaration" in drift.stderr) == (1, True)
    (project / "slo.toml").write_text(SLO_FILE.replace("99.9", "99.5"))
    assert run_slo_command("generate", "-t", "all", "-o", "out", "--check", cwd=project).returncode == 1


def test_test_command_runs_promtool(project: Path) -> None:
    completed = run_slo_command("test", cwd=project)
    assert (completed.returncode, "passed" in completed.stdout) == (0, True), completed.stdout + completed.stderr


def test_generated_tests_fail_for_a_wrong_rule(project: Path) -> None:
    assert run_slo_command("test", "-o", "tests", cwd=project).returncode == 0
    rules = project / "tests" / "shop-api.test-rules.yaml"
    rules.write_text(rules.read_text().replace("> 0.0144", "> 0.9144"))
    completed = subprocess.run(
        ["promtool", "test", "rules", "shop-api.test.yaml"],
        cwd=project / "tests",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 1
    assert "ShopApiBudgetBurn1h" in completed.stdout + completed.stderr


def test_test_command_without_promtool_advises_to_install_it(project: Path) -> None:
    completed = run_slo_command("test", "--promtool", "no-such-promtool", cwd=project)
    assert (completed.returncode, "Install Prometheus, or write the tests" in completed.stderr) == (2, True)


def test_diff_reports_weaker_objectives(project: Path) -> None:
    (project / "new.toml").write_text(SLO_FILE.replace("99.9", "99"))
    completed = run_slo_command("diff", "slo.toml", "new.toml", "--exit-code", cwd=project)
    assert completed.returncode == 1
    assert "weaker" in completed.stdout
    assert "7 h 12 min" in completed.stdout
    assert run_slo_command("diff", "new.toml", "slo.toml", "--exit-code", cwd=project).returncode == 0
    assert run_slo_command("diff", "slo.toml", "slo.toml", cwd=project).stdout == "no differences\n"


def test_runbook_command_keeps_existing_files(project: Path) -> None:
    assert run_slo_command("runbook", "-o", "runbooks", cwd=project).returncode == 0
    page = project / "runbooks" / "shop-api.md"
    page.write_text("filled in")
    (project / "runbooks" / "shop.md").unlink()
    again = run_slo_command("runbook", "-o", "runbooks", cwd=project)
    assert "shop-api.md exists, not overwritten" in again.stdout
    assert page.read_text() == "filled in"
    assert (project / "runbooks" / "shop.md").exists()
    assert run_slo_command("runbook", "--name", "api", cwd=project).stdout.startswith("# shop-api: runbook")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_pass_lint(project: Path, name: str) -> None:
    (project / "slo.toml").write_text(run_slo_command("preset", name, cwd=project).stdout)
    assert run_slo_command("lint", "--azure", cwd=project).returncode == 0


def test_preset_command_lists_presets(project: Path) -> None:
    output = run_slo_command("preset", cwd=project).stdout
    assert all(name in output for name in PRESETS)


def test_export_and_import_round_trip(project: Path) -> None:
    (project / "out.yaml").write_text(run_slo_command("export", cwd=project).stdout)
    assert run_slo_command("import", "out.yaml", "-o", "in", cwd=project).returncode == 0
    assert run_slo_command("diff", "slo.toml", "in/shop.slo.toml", cwd=project).stdout == "no differences\n"


def test_slos_load_from_python_and_from_pyproject(project: Path) -> None:
    (project / "shop.py").write_text("from connectsoft_obs import slo\nP = [slo.availability('api', 99.9)]\n")
    assert run_slo_command("lint", "shop:P", "--service", "shop", cwd=project).returncode == 0
    (project / "slo.toml").rename(project / "other.toml")
    (project / "pyproject.toml").write_text(
        "[project]\nname='x'\n"
        + SLO_FILE.replace("[service]", "[tool.connectsoft_obs.service]").replace(
            "[[slo]]", "[[tool.connectsoft_obs.slo]]"
        )
    )
    assert "shop-api" in run_slo_command("explain", cwd=project).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lint", "nothing.toml"), "it cannot be read"),
        (("explain", "--name", "nope"), "has no such SLO"),
        (("lint", "slo.toml", "slo.toml"), "two sources declare SLOs of this service"),
        (("import", "slo.toml"), "it is not YAML"),
        (("generate", "-t", "magic"), "Invalid value"),
        (("report", "--prometheus", "ftp://x"), "not an HTTP address"),
        (("gate", "--prometheus", "http://127.0.0.1:9"), "does not answer"),
        (("report", "--prometheus", "http://x", "--at", "soon"), "it is not a date"),
        (("dance",), "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_are_one_line_with_exit_code_2(project: Path, arguments: tuple[str, ...], message: str) -> None:
    completed = run_slo_command(*arguments, cwd=project)
    assert completed.returncode == 2
    assert message in completed.stderr
    assert "Traceback" not in completed.stderr


def test_missing_slo_file_is_reported_with_the_searched_names(tmp_path: Path) -> None:
    completed = run_slo_command("lint", cwd=tmp_path)
    assert (completed.returncode, "neither slo.toml nor pyproject.toml" in completed.stderr) == (2, True)


def test_missing_extra_is_reported_and_other_commands_work() -> None:
    code = (
        "import sys\nclass Absent:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name.partition('.')[0] in ('click', 'rich', 'yaml'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from connectsoft_obs.__main__ import main\n"
        "assert main(['version']) == 0\nsys.exit(main(['slo', 'lint']))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert completed.returncode == 2, completed.stderr
    assert "pip install 'connectsoft-obs[cli]'" in completed.stderr
