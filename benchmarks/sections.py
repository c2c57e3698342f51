"""What benchmarks of several sections share: a register of sections, tables, and the command line."""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import scipy
import torch

import pages

Section = Callable[[argparse.Namespace], str]


class NoData(Exception):
    """A section measures files of a folder, and none was given; the message says what to give."""


class Sections:
    """The sections of one program, each a function from the options to Markdown.

    Args:
        program: File name of the program.
        prefix: What the names of its tables start with.
    """

    def __init__(self, program: str, prefix: str) -> None:
        self.program, self.prefix = program, prefix
        self.known: dict[str, Section] = {}

    def section(self, measure: Section) -> Section:
        """Declare the decorated function as a section, by its name."""
        self.known[measure.__name__] = measure
        return measure

    def name(self, section: str) -> str:
        """Return the name of a section's table in the page."""
        return f"{self.prefix}: {section}"

    def run(self, parser: argparse.ArgumentParser) -> None:
        """Read the command line, print the tables, and write them into the page if asked."""
        parser.add_argument("sections", nargs="*", help=f"which sections: {', '.join(self.known)}; all unless given")
        parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
        options = parser.parse_args()
        unknown = set(options.sections) - self.known.keys()
        if unknown:
            parser.error(f"no section named {', '.join(sorted(unknown))}; there are {', '.join(self.known)}")
        torch.set_num_threads(1)
        for name in options.sections or self.known:
            try:
                measured = self.known[name](options)
            except NoData as missing:
                if options.sections:
                    parser.error(str(missing))
                print(f"\n{name}: skipped; {missing}", flush=True)
                continue
            text = f"{measured}\n\n    {self.command(parser, options, name)}"
            print(f"\n{name}: {self.known[name].__doc__}\n\n{text}", flush=True)
            if options.write:
                pages.write(text, self.name(name), self.program)

    def command(self, parser: argparse.ArgumentParser, options: argparse.Namespace, section: str) -> str:
        """Return the command that makes a section's table with these options; folders are left to the reader."""
        words = ["python", f"benchmarks/{self.program}", section]
        for key, value in vars(options).items():
            if key in ("sections", "write") or value == parser.get_default(key):
                continue
            words.append(f"--{key.replace('_', '-')}")
            if isinstance(value, Path):
                words.append("DIR")
            elif value is not True:
                words += map(str, value if isinstance(value, list) else [value])
        return " ".join([*words, "--write"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> str:
    """Return a table in Markdown with the conditions of the run under it."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    versions = f"SciPy {scipy.__version__}, torch {torch.__version__}, {datetime.date.today()}"
    return "\n".join([*lines, "", f"{note} One thread of {platform.machine()}; {versions}."])
