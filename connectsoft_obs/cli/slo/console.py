"""Console and tables for the output of the `slo` commands."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def create_console() -> Console:
    """Create a console for standard output; wide if it is not a terminal, so that tables are not truncated."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=200)


def create_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Create a table with a bold header; long cells are wrapped."""
    result = Table(header_style="bold")
    for name in header:
        result.add_column(name, overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result
