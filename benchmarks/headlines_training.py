"""Claims of optimizers that digits cannot show in a minute, or that came later: scaled down, against AdamW."""

from __future__ import annotations

from headline import HEADLINES, SEEDS, TRIALS, Finding, around, headline, numbers, race


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
