"""Measures what each saving in SOAP costs in loss and gains in time, on the race's own language model.

Every variant trains ``stdlib-lm`` with the same hyperparameters, from the same weights, on the same batches, and is
compared with two-sided SOAP seed by seed: the loss on held-out text after the last step, the seconds spent in the
optimizer (of the thread, so that other processes disturb little; the first step, which finds the bases, left out), and
the bytes of state. Runs are kept in a record, so that a table is made of what was run before, too.

    python benchmarks/lean.py                               three seeds of the default model
    python benchmarks/lean.py --width 256 --depth 4         a wider one
    python benchmarks/lean.py --only "tiles of 128"         these variants, and SOAP
    python benchmarks/lean.py --write                       write the tables of the record into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pages
from lean_variants import BASELINE, PAST, VARIANTS
from precond.optim import Optimizer
from precond.problems.stdlib_lm import stdlib_lm

RECORD = Path(__file__).with_suffix(".jsonl")
NAME, PROGRAM = "lean", "lean.py"
FIRST = "7669ce7"
"""The code of runs that do not name one."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the variants of one table have in common.

    Attributes:
        width: Width of the model.
        depth: Blocks of the model.
        context: Bytes in a window.
        batch: Windows in a batch.
        steps: Steps of training.
        lr: Learning rate, constant.
        weight_decay: Decay.
        code: The commit that last changed what SOAP does; runs of another are not compared with those of this one.
    """

    width: int = 64
    depth: int = 2
    context: int = 64
    batch: int = 16
    steps: int = 300
    lr: float = 3e-3
    weight_decay: float = 0.01
    code: str = "3669d7b"

    def __str__(self) -> str:
        """Return the caption of the table."""
        return (
            f"Width {self.width}, depth {self.depth}, {self.batch * self.context} tokens a step, {self.steps} steps, "
            f"learning rate {self.lr:g}, trajectories since commit {self.code}"
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    """One run.

    Attributes:
        variant: Name of the variant.
        setting: What it shares with the others.
        seed: Of weights and batches.
        loss: On held-out text, nats per byte.
        seconds: In the optimizer, the first step left out.
        bytes: Of state, per parameter.
    """

    variant: str
    setting: Setting
    seed: int
    loss: float
    seconds: float
    bytes: float

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it the same run as another."""
        return self.variant, self.setting, self.seed


def train(variant: str, setting: Setting, seed: int) -> Trained:
    """Train one model with one variant."""
    problem = stdlib_lm(width=setting.width, depth=setting.depth, context=setting.context, batch=setting.batch)
    torch.manual_seed(seed)
    instance = problem.build(seed, torch.device("cpu"))
    named = list(instance.model.named_parameters())
    optimizer = Optimizer(named, VARIANTS[variant](), lr=setting.lr, weight_decay=setting.weight_decay)
    seconds = 0.0
    for step in range(setting.steps):
        optimizer.zero_grad()
        instance.loss(step).backward()
        start = time.thread_time()
        optimizer.step()
        seconds += time.thread_time() - start if step else 0.0
    size = sum(parameter.numel() for _, parameter in named)
    return Trained(variant, setting, seed, float(instance.evaluate()), seconds, optimizer.state_bytes() / size)


def read(record: Path) -> list[Trained]:
    """Return the runs of a record; of runs that were repeated, the last."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    runs = [json.loads(line) for line in lines]
    made = [Trained(**{**run, "setting": Setting(**({"code": FIRST} | run["setting"]))}) for run in runs]
    return list({run.key: run for run in made}.values())


def table(runs: list[Trained]) -> str:
    """Return one table for each setting, as Markdown."""
    settings = dict.fromkeys(run.setting for run in runs)
    tables = {setting: "\n".join(_rows([run for run in runs if run.setting == setting])) for setting in settings}
    return "\n\n".join(f"{setting}:\n\n{rows}" for setting, rows in tables.items())


def _rows(runs: list[Trained]) -> list[str]:
    base = {run.seed: run for run in runs if run.variant == BASELINE}
    lines = [
        "| variant | loss | against SOAP, mean | lowest to highest | seeds | seconds / SOAP | bytes / parameter |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in (v for v in (*VARIANTS, *PAST) if any(run.variant == v for run in runs)):
        mine = [run for run in runs if run.variant == variant and run.seed in base]
        if not mine:
            continue
        changes = [100 * (run.loss / base[run.seed].loss - 1) for run in mine]
        times = statistics.mean(run.seconds / base[run.seed].seconds for run in mine)
        lines.append(
            f"| {variant} | {statistics.mean(run.loss for run in mine):.3f} | {statistics.mean(changes):+.2f} % | "
            f"{min(changes):+.2f} to {max(changes):+.2f} % | {len(mine)} | {times:.2f} | {mine[0].bytes:.1f} |"
        )
    return lines


def main() -> None:
    """Train what the record lacks, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Setting):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated seeds (default 0,1,2)")
    parser.add_argument("--only", default="", help="names of variants, separated by semicolons")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"where runs are kept (default {RECORD.name})")
    parser.add_argument("--write", action="store_true", help="write the tables of the record into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Setting)})
    wanted = [part.strip() for part in options.only.split(";") if part.strip()]
    chosen = [v for v in VARIANTS if v == BASELINE or not wanted or v in wanted]
    known = {run.key for run in read(options.record)}
    if not options.write:
        for seed in (int(part) for part in options.seeds.split(",")):
            for variant in chosen:
                if (variant, setting, seed) not in known:
                    run = train(variant, setting, seed)
                    with options.record.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(dataclasses.asdict(run)) + "\n")
                    print(f"{run.variant}, seed {seed}: {run.loss:.4f}, {run.seconds:.1f} s", file=sys.stderr)
    runs = read(options.record)
    text = table(runs if options.write else [run for run in runs if run.setting == setting])
    print(text)
    if options.write:
        pages.write(text, NAME, PROGRAM)


if __name__ == "__main__":
    main()
