"""Measures what a step costs beyond its arithmetic: many small tensors against one batch, and SOAP against its floor.

First table: a step for 64 parameters of 128x128, as the optimizer takes it, against the same parts on one stacked
``[64, 128, 128]`` tensor, without a driver. Averages over a refresh interval; rounds alternate the two.

Second table: SOAP's least number of multiplications and additions, counted by formula for the parameters of a small GPT
(width 256, depth 4), and the time they would take at the rate at which plain ``torch.mm`` multiplies matrices of
the same shapes in the same run. The optimizer may be faster than that floor, since it may use faster kernels.

On a processor one thread is used and its own time is read.

    python benchmarks/scaling.py                    print the tables
    python benchmarks/scaling.py --write            write them into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import pages
from precond.core import Evidence, Method, Route, named_tensors
from precond.optim import Optimizer
from precond.optim.slab_state import turned_momentum
from precond.problems.gpt import GPT
from precond.recipes.matrix import lean_soap, shampoo, soap
from precond.recipes.orthogonal import muon

NAME, PROGRAM = "scaling on cpu", "scaling.py"
EVERY = 10
COUNT, SIDE = 64, 128
METHODS: dict[str, Method | Route] = {
    "SOAP": soap(every=EVERY),
    "LeanSOAP": lean_soap(every=EVERY, early=None),
    "Shampoo": shampoo(every=EVERY),
    "Muon": muon(),
}
ROUNDS = 5


class Stacked:
    """The parts of a method on one stacked tensor, with no driver around them.

    Args:
        method: The method.
        weights: Shape ``[batch, rows, columns]``.
    """

    def __init__(self, method: Method, weights: Tensor) -> None:
        self.method, self.weights = method, weights
        self.turned = turned_momentum(method)
        self.state = method.preconditioner.init(weights)
        self.momentum = None if method.momentum is None else method.momentum.init(weights)
        self.rule = method.step.init(weights)
        self.clock = 0
        self.primed = False

    def step(self, gradient: Tensor) -> None:
        """Take a step, with a refresh of all members at once when it is due."""
        method, evidence = self.method, Evidence(gradient=gradient)
        if method.cadence.prime and not self.primed:
            method.preconditioner.prime(self.state, evidence)
            self.primed = True
            return
        self.clock += 1
        signal = gradient
        if self.turned is None:
            method.preconditioner.observe(self.state, evidence)
        else:
            signal = self.turned.enter(self.state, gradient)
            self.turned.observe_within(self.state, signal, evidence)
        if not method.cadence.after and (self.clock == 1 or self.clock % EVERY == 0):
            method.preconditioner.refresh(self.state)
        if method.momentum is not None:
            signal = method.momentum.push(self.momentum, signal, evidence)
        if self.turned is None:
            direction = method.preconditioner.apply(self.state, signal)
        else:
            direction = self.turned.leave(self.state, self.turned.apply_within(self.state, signal))
        factor = method.step.factor(self.rule, evidence, direction)  # type: ignore[attr-defined]  # a Factor
        if method.decay is not None:
            method.decay.move([self.weights], [direction * factor], 1e-3, 0.01)
        if method.cadence.after and self.clock % EVERY == 0:
            self._refresh()

    def _refresh(self) -> None:
        vectors = [] if self.turned is None else [t for _, t in named_tensors(self.momentum) if t.ndim > 1]
        before = [] if self.turned is None else [self.turned.leave(self.state, v) for v in vectors]
        self.method.preconditioner.refresh(self.state)
        for vector, value in zip(vectors, before, strict=True):
            vector.copy_(value if self.turned is None else self.turned.enter(self.state, value))


def interval(step: Callable[[], None]) -> float:
    """Return the thread's seconds of a step, averaged over a refresh interval."""
    start = time.thread_time()
    for _ in range(EVERY):
        step()
    return (time.thread_time() - start) / EVERY


def many_against_one(name: str, method: Method | Route, count: int = COUNT, side: int = SIDE) -> str:
    """Return the row of one method."""
    sets = [[torch.randn(side, side) for _ in range(count)] for _ in range(3)]
    stacked = [torch.stack(gradients) for gradients in sets]
    params = [nn.Parameter(torch.randn(side, side)) for _ in range(count)]
    optimizer = Optimizer(params, method, lr=1e-3, weight_decay=0.01)
    one = Stacked(
        method.method_for("hidden", params[0]) if isinstance(method, Route) else method,
        torch.stack([p.detach() for p in params]),
    )
    turns = itertools.cycle(range(len(sets)))

    def separate() -> None:
        for param, gradient in zip(params, sets[next(turns)], strict=True):
            param.grad = gradient
        optimizer.step()

    def batched() -> None:
        one.step(stacked[next(turns)])

    for step in (separate, batched):
        interval(step)
    times = [(interval(separate), interval(batched)) for _ in range(ROUNDS)]
    ratios = [ours / theirs for ours, theirs in times]
    ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"| {name} | {ours:.1f} | {theirs:.1f} | {statistics.median(ratios):.2f} | "
        f"{min(ratios):.2f} to {max(ratios):.2f} |"
    )


def soap_flops(shapes: Sequence[tuple[int, ...]], every: int = EVERY) -> float:
    """Return the least multiplications and additions of a step of SOAP, averaged over a refresh interval.

    For an ``m x n`` matrix: into the basis and out of it ``4 m n (m + n)``; Gram matrices, by symmetry,
    ``m n (m + n)``; and every ``every`` steps for each side the product ``2 n^3``, and ``8/3 n^3`` for a QR
    decomposition with its factor.
    """
    total = 0.0
    for rows, columns in (shape for shape in shapes if len(shape) == 2):
        total += 5 * rows * columns * (rows + columns)
        total += (2 + 8 / 3) * (rows**3 + columns**3) / every
    return total


def product_rate(shapes: Sequence[tuple[int, ...]]) -> float:
    """Return the multiplications and additions a second of ``torch.mm`` on the products that SOAP takes."""
    work = seconds = 0.0
    for rows, columns in {shape for shape in shapes if len(shape) == 2}:
        weight = torch.randn(rows, columns)
        for left, right in ((torch.randn(rows, rows), weight), (weight, torch.randn(columns, columns))):
            torch.mm(left, right)
            best = []
            for _ in range(7):
                start = time.thread_time()
                torch.mm(left, right)
                best.append(time.thread_time() - start)
            seconds += min(best)
            work += 2 * left.shape[0] * left.shape[1] * right.shape[1]
    return work / seconds


def floor(model: nn.Module) -> list[str]:
    """Return the rows of SOAP and LeanSOAP against the floor of SOAP."""
    params = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    shapes = [tuple(p.shape) for p in params]
    work, rate = soap_flops(shapes), product_rate(shapes)
    rows = []
    for name in ("SOAP", "LeanSOAP"):
        optimizer = Optimizer(params, METHODS[name], lr=1e-4)
        for param in params:
            param.grad = torch.randn_like(param)
        seconds = [interval(optimizer.step) for _ in range(3)][-1]
        rows.append(
            f"| {name} | {work / 1e9:.1f} | {rate / 1e9:.0f} | {1e3 * work / rate:.0f} | {1e3 * seconds:.0f} | "
            f"{seconds * rate / work:.2f} |"
        )
    return rows


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        f"| method | {COUNT} parameters, ms | one batch, ms | ratio, median | lowest to highest |",
        "|---|---|---|---|---|",
        *(many_against_one(name, method) for name, method in METHODS.items()),
        "",
        "| method | SOAP's least GFLOP a step | GFLOP/s of torch.mm | floor, ms | step, ms | step / floor |",
        "|---|---|---|---|---|---|",
        *floor(GPT(256, 4, 8, 128)),
        "",
        f"A refresh every {EVERY} steps; one thread of {platform.machine()}, torch {torch.__version__}, "
        f"{datetime.date.today()}.",
    ]
    text = "\n".join(lines)
    print(text)
    if options.write:
        pages.write(text, NAME, PROGRAM)


if __name__ == "__main__":
    main()
