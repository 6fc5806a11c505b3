"""The page of metrics says what the vocabulary says; run this file to write it anew."""

from __future__ import annotations

from pathlib import Path

from connectsoft_obs.vocabulary.reference_table import metrics_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "metrics.md"
START, END = "<!-- generated from connectsoft_obs.vocabulary -->\n", "<!-- end -->\n"


def written(text: str) -> str:
    """The page with the table of now."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{metrics_table()}{END}{rest.partition(END)[2]}"


def test_the_reference_is_that_of_the_vocabulary() -> None:
    text = PAGE.read_text()
    assert text == written(text), f"it is out of date: python {__file__}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
