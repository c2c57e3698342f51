"""Races tuned optimizers on a small language model and on handwritten digits: who trains better?

Every contestant gets the same number of tuning trials over the space that its recipe declares, then its best setting is
rerun over fresh seeds. What counts is the loss at the end of the horizon, the same number of steps for all.

    python benchmarks/train_lm.py                   race, print the tables
    python benchmarks/train_lm.py --write           and write them into docs/benchmarks.md
    python benchmarks/train_lm.py --trials 16 --seeds 8 --jobs 4

A race that was interrupted goes on where it stopped: the runs are kept in the folder ``--out``, with a report.
"""

from __future__ import annotations

import argparse
import datetime
import platform

import torch

import pages
import precond
from precond.race.results.records import Interval, ProblemResult, Standing
from precond.race.results.result import RaceResult

PROBLEMS = ["stdlib-lm", "digits"]
METHODS = ["adamw", "muon", "soap", "mars-m", "psgd-kron", "asgo", "turbo-muon"]
BASELINE = "adamw"
NAME, PROGRAM = "training races on {device}", "train_lm.py"


def around(value: Interval | None) -> str:
    """Return a mean with its interval."""
    if value is None:
        return "none finished"
    return f"{value.mean:.4f}" + ("" if value.low is None else f" ({value.low:.4f} to {value.high:.4f})")


def versus(row: Standing, baseline: Standing | None) -> str:
    """Return how far the final metric lies from the baseline's, in percent; negative is better."""
    if baseline is None or baseline.final is None or row.final is None:
        return ""
    return f"{100 * (row.final.mean / baseline.final.mean - 1):+.1f} %"


def table(problem: ProblemResult) -> str:
    """Return one problem's standings as Markdown."""
    baseline = next((row for row in problem.standings if row.contestant == BASELINE), None)
    head = f"| method | {problem.metric} at the end, 95 % interval | against AdamW | target met, seeds | steps to it "
    lines = [
        f"**{problem.name}**: {problem.description}. Horizon {problem.budget}; the target is {problem.target:g}.",
        "",
        f"{head}| optimizer's share of the step | bytes/parameter | setting |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in problem.standings:
        steps = "" if row.steps_to_target is None else f"{row.steps_to_target.mean:.0f}"
        share = "" if row.optimizer_share is None else f"{100 * row.optimizer_share:.0f} %"
        memory = "" if row.state_bytes_per_parameter is None else f"{row.state_bytes_per_parameter:.1f}"
        setting = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.settings.items())
        cells = [row.contestant, around(row.final), versus(row, baseline), f"{row.solved} of {row.seeds}", steps]
        lines.append("| " + " | ".join([*cells, share, memory, setting]) + " |")
    return "\n".join(lines)


def text(result: RaceResult) -> str:
    """Return all tables, and how they came about."""
    options = result.options
    device = torch.cuda.get_device_name() if options.get("device") == "cuda" else platform.machine()
    how = (
        f"{options['trials']} tuning trials and {options['seeds']} seeds each; {device}, torch {torch.__version__}, "
        f"{datetime.date.today()}."
    )
    return "\n\n".join([*map(table, result.problems), how])


def main() -> None:
    """Race, print, and write the tables into the page if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", default="train-lm-report")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    options = parser.parse_args()
    result = precond.race.run(
        options.problems, options.methods, trials=options.trials, seeds=options.seeds, jobs=options.jobs,
        device=options.device, out=options.out, resume=True, progress=True,
    )  # fmt: skip
    print(text(result))
    if options.write:
        pages.write(text(result), NAME.format(device=options.device), PROGRAM)


if __name__ == "__main__":
    main()
