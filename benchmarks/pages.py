"""Puts what a benchmark measured into a page of ``docs/``, between marks that name its program."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def marks(name: str, program: str) -> tuple[str, str]:
    """Return the first and the last mark of the table ``name``, which ``benchmarks/program`` writes."""
    return f"<!-- {name}: written by benchmarks/{program} --write -->", f"<!-- end of {name} -->"


def write(text: str, name: str, program: str, page: Path = PAGE) -> None:
    """Put ``text`` between the marks of ``name`` in a page.

    Args:
        text: Markdown.
        name: Name of the table, such as ``"slab on cpu"``.
        program: File name of the program that made it.
        page: The page; ``docs/benchmarks.md`` unless given.
    """
    begin, end = marks(name, program)
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} has no place for this table: put the lines\n{begin}\n{end}\ninto it")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
