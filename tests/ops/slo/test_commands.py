"""The commands, as people and pipelines run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import run

from connectsoft_obs.slo.presets import PRESETS

FILE = """
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
def here(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(FILE)
    return tmp_path


def test_lint_passes_with_notes_and_fails_with_errors(here: Path) -> None:
    well = run("lint", cwd=here)
    assert (well.returncode, "retention" in well.stdout) == (0, True)
    (here / "slo.toml").write_text(FILE.replace('team = "sales"', 'team = "sales"\n[prometheus]\nretention = "15d"'))
    ill = run("lint", cwd=here)
    assert ill.returncode == 1
    assert "Prometheus keeps 15d and promises hold for 30d" in ill.stdout
    assert run("lint", "--ignore", "retention", cwd=here).returncode == 0
    findings = json.loads(run("lint", "--json", cwd=here).stdout)
    assert {"level", "code", "about", "message", "advice"} == findings[0].keys()


def test_lint_can_be_strict(here: Path) -> None:
    (here / "slo.toml").write_text(FILE.replace('team = "sales"', ""))
    assert run("lint", cwd=here).returncode == 0
    assert run("lint", "--strict", cwd=here).returncode == 1


def test_explain_says_when_each_alert_fires(here: Path) -> None:
    said = run("explain", "--name", "api", cwd=here).stdout
    assert "43 min 12 s of a total outage in 30 d" in said
    assert "51.8 s" in said


def test_generate_writes_everything_and_check_sees_a_change(here: Path) -> None:
    assert run("generate", "-t", "all", "-o", "out", cwd=here).returncode == 0
    names = {path.name for path in (here / "out").iterdir()}
    assert {
        "shop.rules.yaml", "shop.prometheusrule.yaml", "shop.bicep", "shop.arm.json", "alertmanager.yaml", "shop-api.md",
        "shop-red.dashboard.json", "shop-slo.dashboard.json", "shop.openslo.yaml", "shop-api.test.yaml",
    } <= names  # fmt: skip
    assert run("generate", "-t", "all", "-o", "out", "--check", cwd=here).returncode == 0
    assert "unchanged" in run("generate", "-t", "prometheus", "-o", "out", cwd=here).stdout
    rules = here / "out" / "shop.rules.yaml"
    rules.write_text(rules.read_text().replace("0.0144", "0.02"))
    drift = run("generate", "-t", "all", "-o", "out", "--check", cwd=here)
    assert (drift.returncode, "shop.rules.yaml is not what its promises say" in drift.stderr) == (1, True)
    (here / "slo.toml").write_text(FILE.replace("99.9", "99.5"))
    assert run("generate", "-t", "all", "-o", "out", "--check", cwd=here).returncode == 1


def test_the_rules_of_a_user_are_tested_by_promtool(here: Path) -> None:
    done = run("test", cwd=here)
    assert (done.returncode, "holds" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_rule_that_does_not_do_what_it_should_fails_its_test(here: Path) -> None:
    assert run("test", "-o", "tests", cwd=here).returncode == 0
    rules = here / "tests" / "shop-api.rules.yaml"
    rules.write_text(rules.read_text().replace("> 0.0144", "> 0.9144"))
    done = subprocess.run(
        ["promtool", "test", "rules", "shop-api.test.yaml"],
        cwd=here / "tests",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "ShopApiBudgetBurn1h" in done.stdout + done.stderr


def test_test_says_what_to_install(here: Path) -> None:
    done = run("test", "--promtool", "no-such-promtool", cwd=here)
    assert (done.returncode, "Install Prometheus, or write the tests" in done.stderr) == (2, True)


def test_diff_says_what_becomes_weaker(here: Path) -> None:
    (here / "new.toml").write_text(FILE.replace("99.9", "99"))
    done = run("diff", "slo.toml", "new.toml", "--exit-code", cwd=here)
    assert done.returncode == 1
    assert "weaker" in done.stdout
    assert "7 h 12 min" in done.stdout
    assert run("diff", "new.toml", "slo.toml", "--exit-code", cwd=here).returncode == 0
    assert run("diff", "slo.toml", "slo.toml", cwd=here).stdout == "the same promises\n"


def test_runbooks_that_people_have_filled_in_are_kept(here: Path) -> None:
    assert run("runbook", "-o", "runbooks", cwd=here).returncode == 0
    page = here / "runbooks" / "shop-api.md"
    page.write_text("filled in")
    (here / "runbooks" / "shop.md").unlink()
    again = run("runbook", "-o", "runbooks", cwd=here)
    assert "shop-api.md kept" in again.stdout
    assert page.read_text() == "filled in"
    assert (here / "runbooks" / "shop.md").exists()
    assert run("runbook", "--name", "api", cwd=here).stdout.startswith("# shop-api: runbook")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_file_to_start_from(here: Path, name: str) -> None:
    (here / "slo.toml").write_text(run("preset", name, cwd=here).stdout)
    assert run("lint", "--azure", cwd=here).returncode == 0


def test_presets_are_listed(here: Path) -> None:
    said = run("preset", cwd=here).stdout
    assert all(name in said for name in PRESETS)


def test_what_goes_out_comes_in_again(here: Path) -> None:
    (here / "out.yaml").write_text(run("export", cwd=here).stdout)
    assert run("import", "out.yaml", "-o", "in", cwd=here).returncode == 0
    assert run("diff", "slo.toml", "in/shop.slo.toml", cwd=here).stdout == "the same promises\n"


def test_promises_are_found_in_python_and_in_pyproject(here: Path) -> None:
    (here / "shop.py").write_text("from connectsoft_obs import slo\nP = [slo.availability('api', 99.9)]\n")
    assert run("lint", "shop:P", "--service", "shop", cwd=here).returncode == 0
    (here / "slo.toml").rename(here / "other.toml")
    (here / "pyproject.toml").write_text(
        "[project]\nname='x'\n"
        + FILE.replace("[service]", "[tool.connectsoft_obs.service]").replace("[[slo]]", "[[tool.connectsoft_obs.slo]]")
    )
    assert "shop-api" in run("explain", cwd=here).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lint", "nothing.toml"), "it cannot be read"),
        (("explain", "--name", "nope"), "has no such promise"),
        (("lint", "slo.toml", "slo.toml"), "two files promise something"),
        (("import", "slo.toml"), "it is not YAML"),
        (("generate", "-t", "magic"), "Invalid value"),
        (("report", "--prometheus", "ftp://x"), "not an HTTP address"),
        (("gate", "--prometheus", "http://127.0.0.1:9"), "does not answer"),
        (("report", "--prometheus", "http://x", "--at", "soon"), "it is not a date"),
        (("dance",), "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_line_and_by_the_exit_code(
    here: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments, cwd=here)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_file_the_command_says_where_it_looked(tmp_path: Path) -> None:
    done = run("lint", cwd=tmp_path)
    assert (done.returncode, "neither slo.toml nor pyproject.toml" in done.stderr) == (2, True)


def test_commands_without_the_extra_say_so_and_the_others_work(tmp_path: Path) -> None:
    code = (
        "import sys\nclass Absent:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name.partition('.')[0] in ('click', 'rich', 'yaml'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from connectsoft_obs.__main__ import main\n"
        "assert main(['version']) == 0\nsys.exit(main(['slo', 'lint']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "pip install 'connectsoft-obs[cli]'" in done.stderr
