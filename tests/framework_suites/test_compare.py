"""The comparison of a framework's suite with and without the package (`nox -s framework_suites`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from framework_suites.compare import compare

PASSED = '<testcase classname="tests.test_a" name="test_one[x]"/>'
FAILED = '<testcase classname="tests.test_a" name="test_one[x]"><failure message="broken"/></testcase>'
LISTED = {"suite": "a", "positions": ["around"], "file": "tests.test_a", "tests": ["test_one"], "reason": "by design"}


@pytest.mark.parametrize(
    ("around", "expected", "problems"),
    [
        (PASSED, [], []),
        (FAILED, [LISTED], []),
        (FAILED, [], ["a around, unexpected: tests.test_a::test_one[x]: passed -> failure"]),
        ("", [], ["a around, unexpected: tests.test_a::test_one[x]: passed -> not run"]),
        (PASSED, [LISTED], ["a around, listed in expected.toml but does not differ: tests.test_a::test_one"]),
    ],
    ids=["same", "listed", "unlisted", "missing", "stale"],
)
def test_differences_have_to_match_the_list(
    tmp_path: Path, around: str, expected: list[dict[str, Any]], problems: list[str]
) -> None:
    for position, cases in {"bare": PASSED, "around": around, "inside": PASSED}.items():
        (tmp_path / f"{position}.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert compare("a", tmp_path, expected) == problems
