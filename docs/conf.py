"""How the documentation is built; the reference of names and settings is written from the code first."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import connectsoft_obs
from connectsoft_obs.settings import Settings, variable
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

_HERE = Path(__file__).parent / "reference"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _constants(module: ModuleType, *prefixes: str) -> list[tuple[str, ...]]:
    names = [name for name in vars(module) if name.isupper() and (not prefixes or name.startswith(prefixes))]
    return [(f"`{value}`",) for value in (getattr(module, name) for name in names) if isinstance(value, str)]


def _vocabulary() -> str:
    dimensions = [(f"`{key}`", f"`{attribute}`") for key, attribute in DIMENSIONS.items()]
    good = {True: "good", False: "bad", None: "neither"}
    outcomes = [(f"`{outcome}`", good[outcome.good]) for outcome in Outcome]
    return "\n".join(
        (
            "# Vocabulary\n\nThe words of `connectsoft_obs.vocabulary`; [metrics](metrics.md) have a page of their own.\n",
            "## Outcomes\n",
            _table(("outcome", "for an objective"), outcomes),
            "## Dimensions\n\nWhat `obs.bind(...)` writes on spans and log lines, never on a metric.\n",
            _table(("bind", "attribute"), dimensions),
            "## Attributes\n\nOf spans, log lines and, where [metrics](metrics.md) say so, labels.\n",
            _table(("attribute",), _constants(attributes)),
            "## Headers\n\nRead and written by `extract()` and `inject()`, requests and messages.\n",
            _table(
                ("header",),
                _constants(enums, "TRACE", "BAGGAGE", "CORRELATION", "REQUEST_ID", "SENT", "PREV", "TENANT"),
            ),
        )
    )


def _settings() -> str:
    rows = []
    for field in dataclasses.fields(Settings):
        env = variable(field.name, field.metadata["env"])
        default = field.default if field.default is not dataclasses.MISSING else "empty"
        shown = "unset" if default is None else f"`{default}`"
        rows.append((f"`{field.name}`", f"`{env}`" if env else "argument only", shown, field.metadata["help"]))
    head = (
        "# Settings\n\nEvery field of `Settings`: an argument of `configure()` and of the middleware, and a variable.\n"
    )
    return head + "\n" + _table(("field", "variable", "default", "what it does"), rows)


def _write(name: str, content: str) -> None:
    place = _HERE / name
    if not place.exists() or place.read_text() != content:
        place.write_text(content)


sys.path.insert(0, str(Path(__file__).parent))
import pictures  # noqa: E402  beside this file

pictures.draw()
_write("vocabulary.md", _vocabulary())
_write("settings.md", _settings())


def setup(app: Sphinx) -> None:
    """Bicep has no lexer in Pygments; it is shown as it is."""
    app.add_lexer("bicep", TextLexer)
