"""Measures the slab layout, equal shapes stacked as ``[batch, *shape]``, against lists of tensors.

Two kinds of work, as optimizers do them: elementwise (AdamW) on slabs against ``torch._foreach_*`` on lists, and matrix
work (matmul, eigh, QR) batched against a loop. The slab pays for gathering gradients from the parameters and for
scattering updates to them; the list does not. Prints the ratio of times, list over slab: above 1 the slab wins. On a
processor one thread is used and its own time is read, so that other processes disturb little; on a GPU, wall time.

    python benchmarks/slab.py                       print the table
    python benchmarks/slab.py --device cuda         on a GPU
    python benchmarks/slab.py --write               write it into docs/benchmarks.md, between the marks of the device
"""

from __future__ import annotations

import argparse
import datetime
import functools
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import pages

NAME, PROGRAM = "slab on {device}", "slab.py"
ELEMENTWISE = [
    (8, (64,)), (64, (64,)), (8, (64, 64)), (64, (64, 64)), (8, (256, 256)), (32, (256, 256)), (4, (1024, 1024)),
]  # fmt: skip
MATRIX = [(8, 16), (64, 16), (8, 64), (32, 64), (8, 256)]
OPERATIONS = {"matmul": lambda s: s @ s, "eigh": torch.linalg.eigh, "QR": torch.linalg.qr}
ROUNDS = 15
SECONDS = 0.02
"""How long each side of a round lasts, at least."""

Pair = tuple[Callable[[], object], Callable[[], object]]


def adamw_lists(params: list[Tensor], grads: list[Tensor], first: list[Tensor], second: list[Tensor]) -> None:
    """Take one AdamW step on lists of tensors, with foreach kernels."""
    torch._foreach_lerp_(first, grads, 0.1)
    torch._foreach_mul_(second, 0.999)
    torch._foreach_addcmul_(second, grads, grads, 0.001)
    denominator = torch._foreach_sqrt(second)
    torch._foreach_add_(denominator, 1e-8)
    torch._foreach_mul_(params, 1 - 1e-4)
    torch._foreach_addcdiv_(params, first, denominator, -1e-3)


def adamw_slab(params: list[Tensor], grads: list[Tensor], first: Tensor, second: Tensor) -> None:
    """Take the same step on stacked state, gathering and scattering included."""
    gradient = torch.stack(grads)
    first.lerp_(gradient, 0.1)
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    update = first / second.sqrt().add_(1e-8)
    torch._foreach_mul_(params, 1 - 1e-4)
    torch._foreach_add_(params, list(update.unbind(0)), alpha=-1e-3)


def elementwise(count: int, shape: tuple[int, ...], device: str) -> Pair:
    """Return an AdamW step on lists and on a slab."""

    def tensors() -> list[Tensor]:
        return [torch.randn(shape, device=device) for _ in range(count)]

    params, grads, first, second = tensors(), tensors(), tensors(), [t.abs() for t in tensors()]
    return (
        functools.partial(adamw_lists, params, grads, first, second),
        functools.partial(adamw_slab, params, grads, torch.stack(first), torch.stack(second)),
    )


def matrix(operation: Callable[[Tensor], object], count: int, side: int, device: str) -> Pair:
    """Return an operation on symmetric matrices in a loop over a list, and batched after gathering them."""
    factors = torch.randn(count, side, side, device=device)
    matrices = list((factors @ factors.mT).unbind(0))
    return (lambda: [operation(m) for m in matrices], lambda: operation(torch.stack(matrices)))


def seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Return the seconds of one call, averaged over ``repeats`` calls."""
    if device == "cpu":
        start = time.thread_time()
        for _ in range(repeats):
            work()
        return (time.thread_time() - start) / repeats
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def ratio(pair: Pair, device: str) -> tuple[float, float, float]:
    """Return the ratio of times (list over slab): lowest, median and highest of rounds that alternate the two."""
    for work in pair:
        seconds(work, 2, device)
    repeats = [max(1, round(SECONDS / max(seconds(work, 3, device), 1e-7))) for work in pair]
    ratios = []
    for _ in range(ROUNDS):
        lists, slab = (seconds(work, n, device) for work, n in zip(pair, repeats, strict=True))
        ratios.append(lists / slab)
    return min(ratios), statistics.median(ratios), max(ratios)


def table(device: str) -> str:
    """Measure everything and return it as Markdown."""
    torch.manual_seed(0)
    rows = [
        (f"AdamW step, {count} tensors of {'x'.join(map(str, shape))}", elementwise(count, shape, device))
        for count, shape in ELEMENTWISE
    ]
    rows += [
        (f"{name}, {count} matrices of {side}x{side}", matrix(operation, count, side, device))
        for name, operation in OPERATIONS.items()
        for count, side in MATRIX
    ]
    lines = ["| work | list / slab, median | lowest to highest |", "|---|---|---|"]
    for text, pair in rows:
        low, middle, high = ratio(pair, device)
        lines.append(f"| {text} | {middle:.2f} | {low:.2f} to {high:.2f} |")
    where = torch.cuda.get_device_name() if device == "cuda" else f"one thread of {platform.machine()}"
    versions = f"torch {torch.__version__}, {datetime.date.today()}"
    return "\n".join([*lines, "", f"Ratios of {ROUNDS} rounds; {where}, {versions}."])


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = table(options.device)
    print(text)
    if options.write:
        pages.write(text, NAME.format(device=options.device), PROGRAM)


if __name__ == "__main__":
    main()
