"""Compare the outcomes of a framework's test suite with and without the package, as recorded in JUnit files.

    python compare.py SUITE FOLDER

`FOLDER` contains `bare.xml`, `around.xml` and `inside.xml`. Every test whose outcome differs from the bare run has to be
in `expected.toml` with a reason, and every entry there has to differ. Otherwise the exit code is 1.
"""

from __future__ import annotations

import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

POSITIONS = ("around", "inside")


def read_outcomes(report: Path) -> dict[str, str]:
    """Return the outcome of each test: passed, failure, error or skipped."""
    outcomes: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  written by pytest just before
        name = f"{case.get('classname')}::{case.get('name')}"
        problem = next((child.tag for child in case if child.tag in {"failure", "error", "skipped"}), "passed")
        outcomes[name] = problem if outcomes.get(name, "passed") == "passed" else outcomes[name]
    return outcomes


def find_differences(bare: dict[str, str], observed: dict[str, str]) -> dict[str, list[str]]:
    """Return the tests with another outcome, by name without parameters."""
    differences: dict[str, list[str]] = {}
    for name in sorted({*bare, *observed}):
        before, after = bare.get(name, "not run"), observed.get(name, "not run")
        if before != after:
            differences.setdefault(name.partition("[")[0], []).append(f"{name}: {before} -> {after}")
    return differences


def compare(suite: str, folder: Path, expected: list[dict[str, Any]]) -> list[str]:
    """Print the outcomes, and return what differs from the expectation."""
    bare = read_outcomes(folder / "bare.xml")
    print(f"{suite} bare: {describe(bare)}")
    problems = [] if "passed" in bare.values() else [f"{suite} bare: no test passed"]
    for position in POSITIONS:
        observed = read_outcomes(folder / f"{position}.xml")
        differences = find_differences(bare, observed)
        count = sum(map(len, differences.values()))
        print(f"{suite} {position}: {describe(observed)}; {count} differ from bare")
        listed: set[str] = set()
        for entry in expected:
            if entry["suite"] == suite and position in entry["positions"]:
                listed |= {f"{entry['file']}::{test}" for test in entry["tests"]}
        for name, changes in differences.items():
            if name not in listed:
                problems += [f"{suite} {position}, unexpected: {change}" for change in changes]
        stale = sorted(listed - differences.keys())
        problems += [f"{suite} {position}, listed in expected.toml but does not differ: {name}" for name in stale]
    return problems


def describe(outcomes: dict[str, str]) -> str:
    """Return the number of tests of each outcome."""
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items()))


def main() -> int:
    """Compare the reports in a folder."""
    suite, folder = sys.argv[1:]
    expected = tomllib.loads(Path(__file__).with_name("expected.toml").read_text(encoding="utf-8"))["differences"]
    problems = compare(suite, Path(folder), expected)
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
