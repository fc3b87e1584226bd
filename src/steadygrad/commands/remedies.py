"""``steadygrad remedies``: what can be tried, what each is for, and what it risks."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadygrad.remedies import FAMILIES


def remedies() -> None:
    """List every remedy: what it is for, what it risks, and how to write it for `run --apply`."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("try it with --apply", style="cyan", no_wrap=True)
    table.add_column("for", ratio=3)
    table.add_column("risk", ratio=3, style="dim")
    for family, members in FAMILIES.items():
        table.add_section()
        table.add_row(Text(family, style="bold"))
        for remedy in members:
            table.add_row(Text(remedy.example), Text(remedy.purpose), Text(remedy.risk))
    console = Console()
    console.print(table)
    console.print(
        "\nWritten code[:value][@place]; the value and the place may be left out.",
        style="dim",
        highlight=False,
        markup=False,
    )
