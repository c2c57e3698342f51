"""The commands ``precond methods`` and ``precond problems``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from precond.catalogue.entries import Entry, entries
from precond.catalogue.page import citation, finding
from precond.core import Kind
from precond.core.terminal import console
from precond.problems.registry import all_problems
from precond.recipes.registry import find

KINDS = ", ".join(kind.value for kind in Kind)
METHODS_EPILOG = """
[bold]Examples[/bold]

  precond methods                           [dim]every method[/dim]

  precond methods soap                      [dim]one in full, with its equations[/dim]

  precond methods --search "sparse matrix"  [dim]entries that hold both words[/dim]

  precond methods --kind linear-system      [dim]what can solve A x = b[/dim]

  precond methods --json > methods.json     [dim]the same as data[/dim]
"""
PROBLEMS_EPILOG = """
[bold]Examples[/bold]

  precond problems                  [dim]names to race on[/dim]

  precond race digits               [dim]race on one of them[/dim]

  precond race poisson2d:n=128      [dim]with an option[/dim]

  precond race digits:FOLDER        [dim]on files of your own[/dim]

  precond race my.py:problem        [dim]on a function of your own[/dim]
"""


def methods(
    name: Annotated[str, typer.Argument(help="Show this one method in full.", show_default=False)] = "",
    search: Annotated[str, typer.Option(help="Only entries that hold all of these words.", show_default=False)] = "",
    family: Annotated[str, typer.Option(help="Only this family, such as matrix or krylov.", show_default=False)] = "",
    kind: Annotated[str, typer.Option(help=f"Only methods for {KINDS}.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")] = False,
) -> None:
    """List the methods: paper, claim, what was measured, needs, memory, and how to call them."""
    if name:
        wanted = find(name).name
        found = [entry for entry in entries() if entry.name == wanted]
    else:
        found = entries(search=search, family=family, kind=kind)
    if as_json:
        typer.echo(json.dumps([entry.to_json() for entry in found], indent=1))
        return
    terminal = console()
    if not found:
        asked = {"--search": search, "--family": family, "--kind": kind}
        given = " ".join(f"{option} {value!r}" for option, value in asked.items() if value)
        terminal.print(f"No method has {given}: ask for less, or `precond methods` for all.", markup=False)
    elif len(found) == 1:
        _show(terminal, found[0])
    else:
        terminal.print(_table(found))
        terminal.print(f"{len(found)} methods; `precond methods NAME` shows one in full.", markup=False)


def problems() -> None:
    """List the problems that can be raced: name, options, and what is to be solved."""
    table = Table(box=None, header_style="bold")
    table.add_column("problem", no_wrap=True)
    table.add_column("options", max_width=24)
    table.add_column("what is to be solved")
    for entry in all_problems().values():
        options = [f"{name}={value}" for name, value in entry.options.items()]
        path = ["PATH"] if entry.needs_path else ["[PATH]"] if entry.takes_path else []
        table.add_row(entry.name, Text(" ".join(path + options)), Text(entry.purpose))
    terminal = console()
    terminal.print(table)
    terminal.print("Name options after a colon: `precond race poisson2d:n=128`.", markup=False)


def _table(found: list[Entry]) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("method", "family", "year", "memory"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is for")
    for entry in found:
        table.add_row(entry.name, entry.family, str(entry.paper.year), entry.memory.short, Text(entry.purpose))
    return table


def _show(console: Console, entry: Entry) -> None:
    """Print one entry in full."""
    rows = {
        "paper": citation(entry),
        "for": entry.purpose,
        "runs on": ", ".join(entry.kinds),
        "needs": "; ".join(entry.needs) or "nothing",
        "memory": f"{entry.memory}, on {entry.memory.reference}",
        "claim": entry.claim,
        "measured": finding(entry),
    }
    console.print(Text(entry.name, style="bold"), Text(f"({entry.family})", style="dim"))
    table = Table.grid(padding=(0, 2))
    for name, text in rows.items():
        table.add_row(Text(name, style="dim"), Text(text))
    console.print(table)
    console.print()
    console.print(Syntax(entry.example.strip(), "python", background_color="default"))
    console.print()
    console.print(Text(entry.text.replace("``", "")), soft_wrap=True)
