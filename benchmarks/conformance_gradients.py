"""Cases of conformance: gradients that are zero, singular, broken or missing."""

from __future__ import annotations

import math

import torch

from conformance_case import SHAPES, Broken, Maker, Squares, case, same


@case("gradients", "all zero")
def all_zero(make: Maker) -> None:
    """Nobody moves while all gradients are zero; later ones move everybody."""
    run = Squares(make)
    before = run.snapshot()
    for _ in range(4):
        run.step(**{name: torch.zeros(shape) for name, shape in SHAPES.items()})
    run.finite()
    if not all(torch.allclose(run.params[name].detach(), before[name], rtol=0.05) for name in before):
        raise Broken("zero gradients moved it")  # by more than weight decay may shrink it
    run.falls()


@case("gradients", "zero at first")
def first_zero(make: Maker) -> None:
    """The first gradient of everything is zero."""
    run = Squares(make)
    run.step(**{name: torch.zeros(shape) for name, shape in SHAPES.items()})
    run.falls()


@case("gradients", "rank one")
def rank_one(make: Maker) -> None:
    """Gradients that are outer products of the same two vectors, up to scale."""
    run = Squares(make)
    direction = torch.outer(torch.linspace(-1, 1, 6), torch.linspace(1, 2, 4))
    for k in range(4):
        run.step(matrix=direction * (1 + 0.1 * k))
    run.finite()
    run.falls(12)


@case("gradients", "equal eigenvalues")
def equal_eigenvalues(make: Maker) -> None:
    """Gradients that are multiples of an orthogonal matrix, so that all eigenvalues of every factor coincide."""
    run = Squares(make, {"square": (4, 4), "vector": (4,)})
    q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    for k in range(4):
        run.step(square=q * (0.5 + 0.1 * k))
    run.finite()
    run.falls(12)


def _spike(make: Maker, value: float, at: int) -> None:
    run = Squares(make)
    run.steps(at)
    bad = run.gradient("matrix")
    bad[1, 2] = value
    run.step(matrix=bad)
    run.finite()
    run.falls(12)


@case("gradients", "inf spike")
def inf_spike(make: Maker) -> None:
    """One infinite entry in one gradient, once."""
    _spike(make, math.inf, 3)


@case("gradients", "huge spike")
def huge_spike(make: Maker) -> None:
    """One entry of 1e30 in one gradient, once: finite, but not its square."""
    _spike(make, 1e30, 3)


@case("gradients", "NaN spike")
def nan_spike(make: Maker) -> None:
    """One NaN in one gradient, once."""
    _spike(make, math.nan, 3)


@case("gradients", "NaN at first")
def nan_first(make: Maker) -> None:
    """The very first gradient holds a NaN."""
    _spike(make, math.nan, 0)


@case("missing gradients", "sometimes")
def missing_sometimes(make: Maker) -> None:
    """Every third gradient is missing, of different parameters at different steps; nobody moves without one."""
    run = Squares(make)
    before = {name: run.loss([name]) for name in run.params}
    for k in range(9):
        absent = {name: None for i, name in enumerate(run.params) if (k + i) % 3 == 0}
        kept = run.snapshot()
        run.step(**absent)
        if any(not torch.equal(kept[name], run.params[name].detach()) for name in absent):
            raise Broken("moved without a gradient")
    run.finite()
    if any(not run.loss([name]) < before[name] for name in run.params):
        raise Broken("no progress")


@case("missing gradients", "always")
def missing_always(make: Maker) -> None:
    """A parameter that never has a gradient stays, and the others move."""
    run = Squares(make)
    kept, before = run.snapshot()["matrix"], run.loss(["wide", "vector"])
    for _ in range(8):
        run.step(matrix=None)
    run.finite()
    if not torch.equal(kept, run.params["matrix"].detach()):
        raise Broken("moved without a gradient")
    if not run.loss(["wide", "vector"]) < before:
        raise Broken("no progress of the others")


@case("missing gradients", "at first")
def missing_first(make: Maker) -> None:
    """A parameter gets its first gradient after some steps of the others."""
    run = Squares(make)
    for _ in range(4):
        run.step(matrix=None)
    run.falls()


@case("missing gradients", "all")
def missing_all(make: Maker) -> None:
    """A step without any gradient does nothing."""
    run = Squares(make)
    run.step(matrix=None, wide=None, vector=None)
    run.steps(2)
    kept = run.snapshot()
    run.step(matrix=None, wide=None, vector=None)
    same(kept, run.snapshot(), "moved without a gradient")
    run.falls()
