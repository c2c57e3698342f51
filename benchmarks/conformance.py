"""Puts every optimizer, ours and other libraries', through the cases of `conformance_cases`, and says who survives.

Each optimizer runs in a process of its own, at its default learning rate, and each case within a limit of time and
memory: one that compiles for minutes, loops or dies is listed as such, and the next case runs in a new process.

    python benchmarks/conformance.py                    print the tables
    python benchmarks/conformance.py --only SOAP,adamw  rows whose name holds one of these
    python benchmarks/conformance.py --write            write them into docs/conformance.md
    python benchmarks/conformance.py --keep FILE        keep verdicts there; with --only, other rows come from there

Rivals are run when they can be imported: `pip install pytorch_optimizer heavyball`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import json
import logging
import os
import platform
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import conformance_cases
import pages
from conformance_cases import CASES, Maker, Named, verdict
from precond.core import Kind
from precond.optim import Optimizer
from precond.recipes.registry import all_recipes

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
PROGRAM = "conformance.py"
SECONDS = 300
"""For one case, importing the rival's package included."""
BYTES = 16 * 2**30
"""Of address space, for one process."""


_WINDOW: Mapping[str, Any] = {"lr": 1e-2, "memory": 16, "damping": 1.0}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "adahessian": {"lr": 1e-2, "eps": 1e-2},
    "psps": {"lr": 0.1},
    "m-fac": _WINDOW,
    "low-rank-m-fac": {"memory": 16, "damping": 0.1},
    "sparse-m-fac": {**_WINDOW, "density": 0.5},
}
"""What recipes must be told about problems of a few dozen entries and steps; shown with their names.

Below the squared noise of a gradient, damping lets a window of few gradients take out what they have in common, which
on these problems is all that leads to the target. The learning rate goes along: steps are divided by the damping.
AdaHessian divides by ``eps`` alone where a Hessian vanishes, as it does where a case repeats a gradient whatever the
weights are, and where differences of gradients are lost in rounding to half precision. Polyak's step expects that the
gradients account for the whole loss, which they do not where a case leaves some out or gives others.
"""


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row.

    Attributes:
        name: What it is called in the tables.
        maker: Imports what it needs, and returns what makes the optimizer.
    """

    name: str
    maker: Callable[[], Maker]


class Closed(Optimizer):
    """Our optimizer; it asks for the closure, since some methods need the loss, or the batch again."""

    wants_closure = True


def ours() -> Iterator[Contestant]:
    """Yield every recipe that trains, with its own learning rate and weight decay."""
    for name, recipe in all_recipes().items():
        if Kind.TRAINING in recipe.runs_on:

            def make(named: Named, recipe: Any = recipe) -> torch.optim.Optimizer:
                told = {"lr": recipe.lr, **SETTINGS.get(recipe.name, {})}
                return Closed(named, lr=told.pop("lr"), weight_decay=recipe.weight_decay, method=recipe.build(**told))

            told = ", ".join(f"{key}={value}" for key, value in SETTINGS.get(name, {}).items())
            yield Contestant(f"precond {name}" + (f" ({told})" if told else ""), lambda make=make: make)


def theirs(package: str, cls: str, *, names: bool = False, **settings: Any) -> Contestant:
    """Return an optimizer of another library; ``names`` if it takes named parameters."""

    def maker() -> Maker:
        module = importlib.import_module(package)
        if package == "heavyball":
            importlib.import_module("heavyball.utils").compile_mode = None
        return lambda named: getattr(module, cls)(named if names else [p for _, p in named], **settings)

    return Contestant(f"{package}.{cls}", maker)


def _muon() -> Contestant:
    def maker() -> Maker:
        cls = importlib.import_module("pytorch_optimizer").Muon

        def make(named: Named) -> torch.optim.Optimizer:
            hidden, rest = ([p for _, p in named if (p.ndim >= 2) is wanted] for wanted in (True, False))
            groups = [{"params": hidden, "use_muon": True}, {"params": rest, "use_muon": False}]
            return cls([group for group in groups if group["params"]])

        return make

    return Contestant("pytorch_optimizer.Muon", maker)


RIVALS = [
    theirs("torch.optim", "SGD", names=True, lr=0.1, momentum=0.9),
    *(theirs("torch.optim", name, names=True) for name in ("Adam", "AdamW", "NAdam", "RMSprop", "Adagrad")),
    theirs("torch.optim", "Adafactor", names=True),
    *(theirs("heavyball", name) for name in ("SGD", "AdamW", "LaProp", "Muon", "SOAP", "PSGDKron")),
    *(theirs("pytorch_optimizer", name) for name in ("Adan", "Lion", "MARS", "SOAP", "Shampoo", "ScalableShampoo")),
    theirs("pytorch_optimizer", "Kron"),
    _muon(),
]


def everybody() -> dict[str, Contestant]:
    """Return all contestants by name."""
    return {contestant.name: contestant for contestant in [*ours(), *RIVALS]}


# --- one process: as many cases as it lives to see ------------------------------------------------------------------


def work(name: str, after: int) -> None:
    """Run the cases of one contestant from number ``after`` on, and print one line for each."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    make = everybody()[name].maker()
    for number, (group, case, function) in enumerate(all_cases()):
        if number >= after:
            print(json.dumps([group, case, verdict(function, make)]), flush=True)


def all_cases() -> list[tuple[str, str, conformance_cases.Case]]:
    """Return group, name and function of every case, in order."""
    return [(group, name, function) for group, cases in CASES.items() for name, function in cases.items()]


# --- the process that starts the others -----------------------------------------------------------------------------


def verdicts(name: str, seconds: float = SECONDS) -> dict[tuple[str, str], str]:
    """Return a contestant's verdict on every case."""
    cases = [(group, case) for group, case, _ in all_cases()]
    found: dict[tuple[str, str], str] = {}
    while len(found) < len(cases):
        lines, why = _listen(name, len(found), seconds)
        found |= {(group, case): text for group, case, text in lines}
        if why and not found:  # it cannot even start
            return dict.fromkeys(cases, why)
        if why and len(found) < len(cases):
            found[cases[len(found)]] = why
    return found


def _listen(name: str, after: int, seconds: float) -> tuple[list[list[str]], str]:
    """Return the lines of one process until it ends or is silent for too long, and what ended it."""
    command = [sys.executable, __file__, "--work", name, "--after", str(after)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, bufsize=1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[list[str]] = []
    watch = selectors.DefaultSelector()
    watch.register(process.stdout, selectors.EVENT_READ)
    while True:
        if not watch.select(seconds):
            process.kill()
            process.communicate()
            return lines, f"no answer in {seconds:g} s"
        line = process.stdout.readline()
        if not line:
            break
        if line.startswith('["'):
            lines.append(json.loads(line))
    _, errors = process.communicate()
    if process.returncode == 0:
        return lines, ""
    last = (errors.strip().splitlines() or [""])[-1]
    return lines, f"the process died: {last[:90]}" if process.returncode > 0 else "the process was killed"


def pages_of(results: dict[str, dict[tuple[str, str], str]]) -> str:
    """Return the tables, and below each what exactly was raised."""
    total = len(all_cases())
    text = [f"| optimizer | passed, of {total} |", "|---|---|"]
    text += [f"| {name} | {sum(v == 'pass' for v in found.values())} |" for name, found in results.items()]
    for group, cases in CASES.items():
        text += ["", f"### {group[0].upper()}{group[1:]}", ""]
        text += [f"* **{name}**: {(function.__doc__ or '').splitlines()[0]}" for name, function in cases.items()]
        text += ["", f"| optimizer | {' | '.join(cases)} |", f"|---|{'---|' * len(cases)}"]
        notes: list[str] = []
        for name, found in results.items():
            cells = [_cell(found[group, case], notes) for case in cases]
            text.append(f"| {name} | {' | '.join(cells)} |")
        text += ["", *(f"{number}. {note}" for number, note in enumerate(notes, start=1))] if notes else []
    where = f"{platform.machine()}, torch {torch.__version__}, {datetime.date.today()}"
    device = "a GPU" if torch.cuda.is_available() else "no GPU at hand, so models moved to float64 and back instead"
    return "\n".join([*text, "", f"{where}; {device}."])


def _cell(text: str, notes: list[str]) -> str:
    """Return what stands in a cell; long texts become notes."""
    head, colon, _ = text.partition(":")
    if text == "pass" or not colon or not head.startswith(("raised", "the process died")):
        return text
    if text not in notes:
        notes.append(text)
    return f"{head} ({notes.index(text) + 1})"


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma-separated parts of names")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"limit for one case (default {SECONDS})")
    parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{PAGE.name}")
    parser.add_argument("--keep", type=Path, help="file of verdicts, by optimizer")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--after", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.after)
        return
    kept: dict[str, list[list[str]]] = {}
    if options.keep and options.keep.exists():
        kept = json.loads(options.keep.read_text(encoding="utf-8"))
    wanted = [part.strip().lower() for part in options.only.split(",") if part.strip()]
    results = {}
    for name in everybody():
        if not wanted or any(part in name.lower() for part in wanted):
            start = time.perf_counter()
            results[name] = verdicts(name, options.seconds)
            passed = sum(text == "pass" for text in results[name].values())
            print(f"{name}: {passed} passed, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            kept[name] = [[*key, text] for key, text in results[name].items()]
            if options.keep:
                options.keep.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        elif name in kept:
            results[name] = {(group, case): text for group, case, text in kept[name]}
    text = pages_of(results)
    print(text)
    if options.write:
        pages.write(text, "conformance", PROGRAM, PAGE)


if __name__ == "__main__":
    main()
