"""Measures one optimizer step, ours and other libraries', on the parameters of a small GPT (width 256, depth 4).

Gradients are made beforehand, a few random sets that take turns, so that the step alone is timed. Every optimizer works
on its own copy of the parameters; all take their steps in turn in one process, so that what disturbs one disturbs all.
A step is averaged over the refresh interval, which is longer for a method that saves by it: a round is one interval of
each. Printed: the ratio to `torch.optim.AdamW(fused=True)` in the same round, median and lowest to highest of the
rounds; the worst step of a round over its median one, and the first step over the worst one of a round (one with a
refresh, where the method has refreshes), both the median of the rounds, since other processes slow single steps. Before
the first round M-FAC fills its window, and LeanSOAP with rare turns takes the steps in which bases turn more often,
which are dearer.
With one thread the thread's own time is read, else wall time.

    python benchmarks/optim_step.py                         print the table
    python benchmarks/optim_step.py --only SOAP,fused       rows whose name holds one of these, and fused AdamW
    python benchmarks/optim_step.py --network conv          a small convolutional network, whose steps are mostly calls
    python benchmarks/optim_step.py --network many          500 matrices of 32x32
    python benchmarks/optim_step.py --cuda                  on a GPU
    python benchmarks/optim_step.py --without-bfloat16      Muon where oneDNN is kept from instructions for bfloat16
    python benchmarks/optim_step.py --write                 write it into docs/benchmarks.md, between the marks

Rivals are run when they can be imported, and listed as skipped with the reason when not:
`pip install pytorch_optimizer heavyball opt_einsum`, and `psgd.py` of github.com/lixilinx/psgd_torch beside them.
(Without opt_einsum, heavyball's PSGDKron asks for 100 GB.)
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import pages
from optim_contenders import BASELINE, CONTENDERS, EVERY, NETWORKS, Contender

NAME, PROGRAM = "step on {device}", "optim_step.py"
WITHOUT = "step without bfloat16"
LIMITS = {
    "With AVX-512, but no instructions for bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "With AVX2 alone": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""Environments in which PyTorch and oneDNN work as on other processors."""
GRADIENT_SETS = 6


class Running:
    """A contender at work on its own copy of the parameters.

    Args:
        contender: Which.
        model: Whose parameters to copy.
        device: Where to work.
    """

    def __init__(self, contender: Contender, model: nn.Module, device: str) -> None:
        self.name, self.settle, self.every = contender.name, contender.settle, contender.every
        self.params = [nn.Parameter(p.detach().to(device, copy=True)) for p in model.parameters()]
        names = [name for name, _ in model.named_parameters()]
        self.optimizers = list(contender.build(list(zip(names, self.params, strict=True))))
        self.first = 0.0
        self.rounds: list[list[float]] = []

    def step(self, gradients: list[Tensor], clock: Callable[[], float]) -> float:
        """Take one step and return its seconds."""
        for param, gradient in zip(self.params, gradients, strict=True):
            param.grad = gradient
        start = clock()
        for optimizer in self.optimizers:
            optimizer.step()
        return clock() - start

    def row(self, baseline: Running) -> str:
        """Return the line of the table."""
        pairs = zip(self.rounds, baseline.rounds, strict=True)
        ratios = [statistics.mean(ours) / statistics.mean(theirs) for ours, theirs in pairs]
        worst = statistics.median(max(interval) / statistics.median(interval) for interval in self.rounds)
        first = statistics.median(self.first / max(interval) for interval in self.rounds)
        mean = statistics.mean(seconds for interval in self.rounds for seconds in interval)
        return (
            f"| {self.name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
            f"{1e3 * mean:.1f} | {worst:.2f} | {first:.2f} |"
        )


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Return what to read before and after a step."""
    if device == "cuda":

        def synchronized() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return synchronized
    return time.thread_time if threads == 1 else time.perf_counter


def start(contenders: list[Contender], model: nn.Module, device: str) -> tuple[list[Running], dict[str, str]]:
    """Return those that can run, and why the others cannot."""
    running, skipped = [], {}
    for contender in contenders:
        try:
            running.append(Running(contender, model, device))
        except Exception as error:  # whatever a foreign package raises is a reason to list
            skipped[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return running, skipped


def measure(contenders: list[Contender], device: str, threads: int, rounds: int, model: nn.Module | None = None) -> str:
    """Measure everything and return it as Markdown."""
    torch.manual_seed(0)
    model = NETWORKS["gpt"]() if model is None else model
    sets = [
        [torch.randn(p.shape, device=device) * 10.0 ** -(1 + k % 3) for p in model.parameters()]
        for k in range(GRADIENT_SETS)
    ]
    running, skipped = start(contenders, model, device)
    clock = clock_of(device, threads)
    for contender in list(running):
        try:
            contender.first = contender.step(sets[-1], clock)
        except Exception as error:  # as above
            skipped[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            running.remove(contender)
    for contender in running:
        for step in range(contender.settle):
            contender.step(sets[step % GRADIENT_SETS], clock)
    step = 0
    for _ in range(rounds):
        for contender in running:
            contender.rounds.append([])
        for slot in range(1, EVERY + 1):
            for contender in running:
                interval = contender.rounds[-1]
                while len(interval) * EVERY < slot * contender.every:
                    gradients = sets[(len(interval) + (len(contender.rounds) - 1) * contender.every) % GRADIENT_SETS]
                    interval.append(contender.step(gradients, clock))
            step += 1
            print(f"\r{step}/{rounds * EVERY} steps", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    (baseline,) = [contender for contender in running if contender.name == BASELINE]
    lines = [
        "| optimizer | step / fused AdamW | lowest to highest | step, ms | worst / median step | first / worst step |",
        "|---|---|---|---|---|---|",
        *(contender.row(baseline) for contender in running),
        *(f"| {name} | skipped: {reason} | | | | |" for name, reason in skipped.items()),
    ]
    where = torch.cuda.get_device_name() if device == "cuda" else f"{threads} thread(s) of {platform.machine()}"
    size = sum(p.numel() for p in model.parameters())
    about = (
        f"{size:,} parameters in {len(sets[0])} tensors, a refresh every {EVERY} steps unless the name says otherwise, "
        f"{rounds} rounds; {where}, "
        f"torch {torch.__version__}, {datetime.date.today()}."
    )
    return "\n".join([*lines, "", about])


def without_bfloat16(rounds: int) -> str:
    """Measure Muon in processes that stand for processors without bfloat16, and return it as Markdown."""
    tables = []
    for caption, limits in LIMITS.items():
        command = [sys.executable, __file__, "--only", "Muon", "--rounds", str(rounds)]
        table = subprocess.run(command, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True).stdout
        settings = ", ".join(f"`{name}={value}`" for name, value in limits.items())
        tables.append(f"{caption} ({settings}):\n\n{table.strip()}")
    return "\n\n".join(tables)


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help=f"rounds of {EVERY} steps (default 5)")
    parser.add_argument("--only", default="", help="comma-separated parts of names")
    parser.add_argument("--network", choices=list(NETWORKS), default="gpt", help="whose parameters (default gpt)")
    parser.add_argument("--cuda", action="store_true", help="measure on a GPU")
    parser.add_argument("--without-bfloat16", action="store_true", help="Muon without instructions for bfloat16")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    if options.cuda and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is at hand: nothing was measured; run without --cuda for the processor")
    device = "cuda" if options.cuda else "cpu"
    if options.without_bfloat16:
        text = without_bfloat16(options.rounds)
        print(text)
        if options.write:
            pages.write(text, WITHOUT, PROGRAM)
        return
    torch.set_num_threads(options.threads)
    wanted = [part.strip().lower() for part in options.only.split(",") if part.strip()]
    contenders = [c for c in CONTENDERS if c.name == BASELINE or not wanted or any(w in c.name.lower() for w in wanted)]
    if options.write and options.network != "gpt":
        raise SystemExit("the page has a table for the GPT alone: leave out --write, or --network")
    torch.manual_seed(0)
    text = measure(contenders, device, options.threads, options.rounds, NETWORKS[options.network]())
    print(text)
    if options.write:
        pages.write(text, NAME.format(device=device), PROGRAM)


if __name__ == "__main__":
    main()
