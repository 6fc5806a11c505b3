"""The metrics reference equals the vocabulary. Run this file as a script to regenerate the page."""

from __future__ import annotations

from pathlib import Path

from connectsoft_obs.vocabulary.reference_table import metrics_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "metrics.md"
START, END = "<!-- generated from connectsoft_obs.vocabulary -->\n", "<!-- end -->\n"


def with_current_table(text: str) -> str:
    """Return the page with a newly generated table."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{metrics_table()}{END}{rest.partition(END)[2]}"


def test_metrics_reference_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == with_current_table(text), f"docs/reference/metrics.md is out of date; run python {__file__}"


if __name__ == "__main__":
    PAGE.write_text(with_current_table(PAGE.read_text()))
