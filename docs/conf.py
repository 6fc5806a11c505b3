"""Sphinx configuration. Importing it generates the vocabulary and settings pages and the pictures from the code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import connectsoft_obs
from connectsoft_obs.vocabulary import DIMENSIONS, Outcome, attributes, enums

project = "connectsoft-obs"
author = copyright = "ConnectSoft"
release = version = connectsoft_obs.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"connectsoft-obs {release}"
exclude_patterns = ["_build"]
nitpicky = False
suppress_warnings = ["misc.highlighting_failure"]  # Pygments has no lexer for Bicep
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"

_REFERENCE = Path(__file__).parent / "reference"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _constants(module: ModuleType, *prefixes: str) -> list[tuple[str, ...]]:
    names = [name for name in vars(module) if name.isupper() and (not prefixes or name.startswith(prefixes))]
    return [(f"`{value}`",) for value in (getattr(module, name) for name in names) if isinstance(value, str)]


def _vocabulary() -> str:
    dimensions = [(f"`{key}`", f"`{attribute}`") for key, attribute in DIMENSIONS.items()]
    slo_event = {True: "good", False: "bad", None: "neither"}
    outcomes = [(f"`{outcome}`", slo_event[outcome.good]) for outcome in Outcome]
    return "\n".join(
        (
            "# Vocabulary\n\nThe names in `connectsoft_obs.vocabulary`, except [metrics](metrics.md).\n",
            "## Outcomes\n",
            _table(("outcome", "SLO event"), outcomes),
            "## Dimensions\n\nIds that `obs.bind(...)` adds to spans and log lines, never to metrics.\n",
            _table(("keyword of `obs.bind`", "attribute"), dimensions),
            "## Attributes\n\nAttributes of spans and log lines. [Metrics](metrics.md) lists those that are metric labels.\n",
            _table(("attribute",), _constants(attributes)),
            "## Headers\n\nHeaders of requests and messages, read by `extract()` and written by `inject()`.\n",
            _table(
                ("header",),
                _constants(enums, "TRACE", "BAGGAGE", "CORRELATION", "REQUEST_ID", "SENT", "PREV", "TENANT"),
            ),
        )
    )


def _write(name: str, content: str) -> None:
    page = _REFERENCE / name
    if not page.exists() or page.read_text() != content:
        page.write_text(content)


sys.path.insert(0, str(Path(__file__).parent))
import layers  # noqa: E402  in this folder
import pictures  # noqa: E402  in this folder
import search_terms  # noqa: E402  in this folder
import settings_page  # noqa: E402  in this folder

pictures.draw()
layers.draw()
_write("vocabulary.md", _vocabulary())
_write("settings.md", settings_page.generate())


def setup(app: Sphinx) -> None:
    """Show Bicep code as plain text, because Pygments has no lexer for it, and add index entries for the search."""
    app.add_lexer("bicep", TextLexer)
    app.connect("source-read", search_terms.add_index_entries)
