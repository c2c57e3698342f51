"""The catalogue as a page of Markdown."""

from __future__ import annotations

from itertools import groupby

from precond.catalogue.entries import Entry, entries

HEAD = """# Methods

Every published method in the library, as declared by the recipes themselves. This page is written by
`make docs`; `precond methods` shows the same in a terminal and `precond methods --json` as data, whose keys are the
documented attributes of `precond.catalogue.Entry`. Memory is counted on
a reference problem, not estimated; what we measured is written by `benchmarks/headlines.py`. Examples assume
`import precond, torch`, a module `model`, and a matrix `A` with a right-hand side `b`.
"""


def page() -> str:
    """Return the whole page."""
    known = entries()
    table = ["| method | family | published | what it is for |", "|---|---|---|---|"]
    table += [f"| [{e.name}](#{e.name}) | {e.family} | {e.paper.year} | {e.purpose} |" for e in known]
    sections = [
        f"## {family}\n\n" + "\n".join(_section(entry) for entry in group)
        for family, group in groupby(known, key=lambda entry: entry.family)
    ]
    return "\n".join([HEAD, *table, "", *sections])


def citation(entry: Entry) -> str:
    """Return the paper in one line."""
    paper = entry.paper
    source = ", ".join(part for part in (paper.venue, f"arXiv:{paper.arxiv}" if paper.arxiv else "") if part)
    return f"{paper.authors}. {paper.title}. {paper.year}{f'. {source}' if source else ''}."


def finding(entry: Entry) -> str:
    """Return what we measured, or that nothing was."""
    return entry.measured.finding if entry.measured else "not measured yet"


def _section(entry: Entry) -> str:
    again = f" (`{entry.measured.command}`, {entry.measured.date})" if entry.measured else ""
    rows = {
        "Paper": citation(entry),
        "Purpose": entry.purpose,
        "Runs on": ", ".join(entry.kinds),
        "Needs": "; ".join(entry.needs) or "nothing",
        "Memory": f"{entry.memory}, on {entry.memory.reference}",
        "Claim of the paper": entry.claim,
        "What we measured": finding(entry) + again,
    }
    facts = "\n".join(f"* **{name}**: {text}" for name, text in rows.items())
    return f"### {entry.name}\n\n{facts}\n\n```python\n{entry.example.strip()}\n```\n"
