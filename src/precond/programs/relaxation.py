"""Less violation where damped steps stall: by a method for programs itself, or from points around the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from precond.core import Program, ProgramIteration, Site
from precond.programs.barrier import Barrier
from precond.programs.elastic import Elastic
from precond.programs.restoration import Restored, restore

NEAR = 1e-10
"""Weight of staying near, relative to the squares of the variables."""
FLAT = 1e-6
"""A violation is stationary where its gradient and the barrier's weight are this small beside it."""
ITERATIONS = 300
DISTANCES = (0.3, 1.0, 3.0)
"""Distances from the start, relative to its size, from which a violation that does not fall is reduced anew."""
SMALL, DRAWS = 1000, 8
"""Up to so many variables that is done from so many points at each distance; beyond, from one."""
MUCH = 0.1
"""Share of the violation that is worth starting anew from such a point."""
SLOW = 0.02
"""Two steps from such a point that gain less than this share of ``||c||^2`` end the attempt."""


def relax(
    iteration: ProgramIteration, program: Program, site: Site, rows: Tensor, lower: Tensor, upper: Tensor,
    tolerance: float, acceptable: Callable[[Site], bool],
) -> Restored:  # fmt: skip
    """Minimize the scaled violation within bounds until the caller accepts.

    Args:
        iteration: A method that knows bounds.
        program: The oracle.
        site: Where to start, strictly inside of the bounds.
        rows: Factors of the constraints, ``[m]``.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        tolerance: A violation that is as good as none.
        acceptable: Decides whether a point will do.

    Returns:
        Where it ended.
    """
    elastic = Elastic(program, rows, lower, upper, site.x, NEAR / site.x.abs().clamp(min=1).square())
    flat, last = False, site
    for count, iterate in enumerate(iteration.iterate(elastic, elastic.start(site), tolerance)):
        before, last = last, elastic.inner(iterate.site)
        size = float((last.constraints * rows).norm())
        accepted = acceptable(last)
        if accepted or not size > tolerance:
            return Restored(last, False, accepted)
        pull = last.jacobian.rmatvec((last.constraints * rows.square())[None])[0]
        if iterate.bound_multipliers is not None:
            pull = pull - iterate.bound_multipliers[: program.variables]
        flat = count > 0 and float(pull.norm()) <= FLAT * size and iterate.facts.get("mu", 0.0) <= FLAT * size
        still = count > 0 and torch.equal(before.x, last.x)
        if flat or still or iterate.failure is not None or count >= ITERATIONS:
            break
    return Restored(last, flat, False)


def around(program: Program, start: Tensor, site: Site, rows: Tensor, barrier: Barrier) -> Site | None:
    """Reduce the violation from the start and points around it; return one where it is a tenth of that at ``site``."""
    here = float((site.constraints * rows).abs().sum())
    for point in _points(start):
        ended = restore(
            program, program.site(barrier.inside(point)), rows, barrier.lower, barrier.upper,
            lambda found: float((found.constraints * rows).abs().sum()) <= MUCH * here, SLOW,
        )  # fmt: skip
        if ended.accepted and bool(torch.isfinite(ended.site.gradient).all()):
            return ended.site
    return None


def _points(start: Tensor) -> Iterator[Tensor]:
    """Yield the start and random points around it, all distances in turn."""
    yield start
    generator = torch.Generator().manual_seed(0)
    for _ in range(DRAWS if start.numel() <= SMALL else 1):
        for size in DISTANCES:
            draw = torch.randn(start.numel(), generator=generator, dtype=torch.float64).to(start)
            yield start + size * (1 + start.abs()) * draw
