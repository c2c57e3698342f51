"""Claims of optimizers that digits cannot show in a minute, or that came later: scaled down, against AdamW."""

from __future__ import annotations

import torch

from headline import HEADLINES, SEEDS, TRIALS, Finding, around, headline, numbers, race
from precond.core import Method
from precond.optim import Optimizer
from precond.preconditioners.identity import Identity
from precond.recipes.hutchinson import psps
from precond.steps.polyak import Polyak


@headline(
    "distributed-shampoo", "kl-shampoo", "low-rank-m-fac", "m-fac", "psgd-affine", "psgd-lra", "psgd-newton",
    "shampoo-4bit", "shampoo-4bit-cholesky", "sparse-m-fac",
)  # fmt: skip
def later_digits() -> dict[str, Finding]:
    """Race on digits: the loss at the end, against AdamW tuned as carefully."""
    return against_adamw([name for name, measure in HEADLINES.items() if measure is later_digits])


@headline("kl-soap")
def latest_digits() -> dict[str, Finding]:
    """Race on digits: the loss at the end, against AdamW tuned as carefully."""
    return against_adamw(["kl-soap"])


@headline("adahessian")
def probed_digits() -> dict[str, Finding]:
    """Race on digits: the loss at the end, against AdamW tuned as carefully."""
    return against_adamw(["adahessian"])


def against_adamw(names: list[str]) -> dict[str, Finding]:
    """Race them with AdamW; trials do not depend on who else is there."""
    rows = race("digits", ["adamw", *names])
    rival = rows["adamw"]
    findings = {}
    for name in names:
        row = rows[name]
        text = f"digits, {TRIALS} trials and {SEEDS} seeds each: validation loss {around(row.final)} after the horizon"
        text += f"; target met by {row.solved} of {row.seeds} seeds"
        text += f" in {row.steps_to_target.mean:.0f} steps" if row.steps_to_target else ""
        findings[name] = (f"{text} (AdamW: {around(rival.final)}, {rival.solved} of {rival.seeds}).", numbers(row))
    return findings


@headline("psps")
def badly_scaled_regression() -> dict[str, Finding]:
    """Consistent regressions whose columns differ by powers of ten, in batches: the loss after 400 steps."""
    values, parts = {}, []
    for decades in (0, 1, 2):
        pairs = [(fit(psps(), decades, seed), fit(plain_polyak(), decades, seed)) for seed in range(SEEDS)]
        ours, theirs = (sorted(column)[SEEDS // 2] for column in zip(*pairs, strict=True))
        values |= {f"psps_{decades}": ours, f"polyak_{decades}": theirs}
        parts.append(f"{ours:.1e} against {theirs:.1e} with columns of 1 to 1e{2 * decades}")
    text = "consistent regressions (400 rows, 40 columns, batches of 40), loss after 400 steps over that at the start, "
    return {"psps": (f"{text}against Polyak's step without the metric, median of {SEEDS}: {'; '.join(parts)}.", values)}


def plain_polyak() -> Method:
    """Return the same step without a preconditioner."""
    return Method(preconditioner=Identity(), step=Polyak())


def fit(method: Method, decades: int, seed: int) -> float:
    """Return the loss on all rows after training, over that at the start, where columns lie within some decades."""
    random = torch.Generator().manual_seed(seed)
    scales = 10.0 ** (decades * (2 * torch.rand(40, generator=random, dtype=torch.float64) - 1))
    a = torch.randn(400, 40, generator=random, dtype=torch.float64) * scales
    b = (a / scales) @ torch.randn(40, generator=random, dtype=torch.float64)
    b /= b.square().mean().sqrt()
    weight = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
    optimizer = Optimizer([weight], method, lr=1.0)
    for _ in range(400):
        rows = torch.randint(0, 400, (40,), generator=random)

        def closure(rows: torch.Tensor = rows) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (a[rows] @ weight - b[rows]).square().mean() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
    return float((a @ weight.detach() - b).square().mean() / b.square().mean())
