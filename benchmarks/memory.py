"""Measures what the settings of SOAP's state cost: bytes per parameter, loss, and time of a step.

Each setting trains the default ``stdlib-lm`` from the same seeds for as long as the problem lasts; the loss is divided
by that of full state at the same seed. Bytes are the state's as measured while training, and as `estimate_memory`
counts them for a GPT of width 256 and depth 4. On that GPT, with gradients made beforehand, the settings take their
steps in turn on one thread, whose own time is read; a step is averaged over the refresh interval.

    python benchmarks/memory.py                     print the table
    python benchmarks/memory.py --seeds 5           with more seeds
    python benchmarks/memory.py --only LeanSOAP     methods whose name holds this
    python benchmarks/memory.py --write             write it into docs/benchmarks.md, between the marks
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn

import pages
from precond import optim
from precond.core import Method
from precond.problems.base import Training
from precond.problems.gpt import GPT
from precond.problems.stdlib_lm import stdlib_lm
from precond.recipes.matrix import lean_soap, soap
from precond.recipes.states import STATES

NAME, PROGRAM = "memory on cpu", "memory.py"
LR, DECAY, EVERY = 3e-3, 0.01, 10
ROUNDS = 2
METHODS = {"SOAP": soap, "LeanSOAP": lean_soap}


@dataclasses.dataclass
class Row:
    """One setting.

    Attributes:
        name: Of the method.
        state: Of the setting.
        method: Both together.
        losses: Final validation loss by seed.
        small: Bytes per parameter while training.
        large: Bytes per parameter of the larger model.
        seconds: Of steps on the larger model.
    """

    name: str
    state: str
    method: Method
    losses: list[float] = dataclasses.field(default_factory=list)
    small: float = 0.0
    large: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)


def train(row: Row, problem: Training, seed: int, steps: int) -> None:
    """Train the problem once and note loss and bytes."""
    instance = problem.build(seed, torch.device("cpu"))
    optimizer = optim.Optimizer(instance.model.named_parameters(), row.method, lr=LR, weight_decay=DECAY)
    for step in range(steps):
        optimizer.zero_grad()
        instance.loss(step).backward()
        optimizer.step()
    row.losses.append(instance.evaluate())
    row.small = optimizer.state_bytes() / count(instance.model)


def count(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(param.numel() for param in model.parameters())


def time_steps(rows: Sequence[Row], model: nn.Module, rounds: int) -> None:
    """Let all settings take steps on copies of a model in turn, and note the seconds of each step."""
    torch.manual_seed(0)
    sets = [[torch.randn_like(p) * 10.0 ** -(1 + k) for p in model.parameters()] for k in range(3)]
    copies = [[nn.Parameter(p.detach().clone()) for p in model.parameters()] for _ in rows]
    optimizers = [optim.Optimizer(ps, row.method, lr=1e-3) for ps, row in zip(copies, rows, strict=True)]
    for step in range(1 + EVERY * rounds):
        for row, params, optimizer in zip(rows, copies, optimizers, strict=True):
            for param, gradient in zip(params, sets[step % len(sets)], strict=True):
                param.grad = gradient
            start = time.thread_time()
            optimizer.step()
            if step:  # the first finds the bases
                row.seconds.append(time.thread_time() - start)


def table(rows: Sequence[Row], seeds: int, steps: int, problem: Training, model: nn.Module) -> str:
    """Return everything as Markdown."""
    lines = [
        f"| method | state | bytes/parameter, {problem.name} | bytes/parameter, width 256 | validation loss "
        "| loss / full state, each seed | mean | step / full state |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        full = next(other for other in rows if other.name == row.name and other.state == "full")
        ratios = [ours / theirs for ours, theirs in zip(row.losses, full.losses, strict=True)]
        cells = [
            row.name, row.state, f"{row.small:.2f}", f"{row.large:.2f}", f"{statistics.mean(row.losses):.4f}",
            ", ".join(f"{ratio:.4f}" for ratio in ratios), f"{statistics.mean(ratios):.4f}",
            f"{statistics.mean(row.seconds) / statistics.mean(full.seconds):.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    how = (
        f"{steps} steps at a learning rate of {LR:g} from {seeds} seeds; {count(model):,} parameters of the model of "
        f"width 256; one thread of {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}."
    )
    return "\n".join([*lines, "", how])


def measure(
    only: str, seeds: int, rounds: int = ROUNDS, *, steps: int | None = None, problem: Training | None = None,
    model: nn.Module | None = None,
) -> str:  # fmt: skip
    """Measure everything and return it as Markdown."""
    problem = stdlib_lm() if problem is None else problem
    model = GPT(256, 4, 8, 128) if model is None else model
    steps = steps or problem.horizon.steps or 1
    rows = [
        Row(name, state, recipe(every=EVERY, state=state))
        for name, recipe in METHODS.items()
        for state in STATES
        if only in name
    ]
    for row in rows:
        for seed in range(seeds):
            train(row, problem, seed, steps)
        row.large = optim.estimate_memory(model, row.method) / count(model)
    time_steps(rows, model, rounds)
    return table(rows, seeds, steps, problem, model)


def main() -> None:
    """Print the table, and write it into the page if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", default="", help="methods whose name holds this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = measure(options.only, options.seeds)
    print(text)
    if options.write:
        pages.write(text, NAME, PROGRAM)


if __name__ == "__main__":
    main()
