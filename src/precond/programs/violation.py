"""Points where the constraints are violated and seem to be stuck: whether anything nearby violates them less."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from precond.core import Program, Site
from precond.core.materialize import materialize

DENSE = 1000
"""Variables up to which the step of least squares and the curvature of the violation are computed."""
LESS, LOWER = 0.9, 1 - 1e-8
"""A step leads away if it leaves at most this share of the violation; along negative curvature, the second."""
DRAWS = (1e-2, 0.3, 3.0)
"""Sizes of random steps that are tried, relative to the variables."""
RANK = 1e-14
"""Singular values above this share of the largest count in the least-squares step."""


@dataclasses.dataclass(frozen=True)
class Stuck:
    """A point that seems to be stationary for ``||c||^2``, whose gradient proves nothing.

    It may vanish where the Jacobian is nearly singular, or at a saddle. So three things are tried: the least-squares
    step of least norm, whatever its length; directions of negative curvature; random points at several distances.

    Attributes:
        program: The oracle.
        site: The point, strictly inside of the bounds.
        rows: Factors of the constraints, ``[m]``.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
    """

    program: Program
    site: Site
    rows: Tensor
    lower: Tensor
    upper: Tensor

    def way_out(self) -> Site | None:
        """Return a point with a smaller scaled violation, or ``None`` where none was found."""
        x = self.site.x
        here = float((self.site.constraints * self.rows).norm())
        if not x.numel() or not math.isfinite(here):
            return None
        for step, share in self._steps():
            room = 0.99 * torch.where(step < 0, self.lower - x, self.upper - x)
            trial = x + torch.where(step < 0, torch.maximum(step, room), torch.minimum(step, room))
            if float((self.program.values(trial)[1] * self.rows).norm()) <= share * here:
                site = self.program.site(trial)
                if bool(torch.isfinite(site.gradient).all()):
                    return site
        return None

    def _steps(self) -> Iterator[tuple[Tensor, float]]:
        """Yield steps and the share of the violation that each may leave."""
        x = self.site.x
        if x.numel() <= DENSE:
            jacobian, c = materialize(self.site.jacobian) * self.rows[:, None], self.site.constraints * self.rows
            if bool(torch.isfinite(jacobian).all()):
                yield -(torch.linalg.pinv(jacobian, rtol=RANK) @ c), LESS
                bend = self._bend(jacobian, c * self.rows)
                if bend is not None:
                    for exponent in (*range(0, -13, -1), *range(1, 9)):  # far away only where nothing nearby helps
                        length = (1 + float(x.norm())) * 10.0**exponent
                        yield length * bend, LOWER
                        yield -length * bend, LOWER
        generator = torch.Generator().manual_seed(0)
        for size in DRAWS:
            draw = torch.randn(x.numel(), generator=generator, dtype=torch.float64).to(x)
            yield size * (1 + x.abs()) * draw, LESS
            yield -size * (1 + x.abs()) * draw, LESS

    def _bend(self, jacobian: Tensor, weights: Tensor) -> Tensor | None:
        """Return the direction in which ``||c||^2`` has its most negative curvature, if it has any."""
        bent = materialize(self.program.hessian(self.site, weights))
        bent = bent - materialize(self.program.hessian(self.site, torch.zeros_like(weights)))
        bent = jacobian.mT @ jacobian + (bent + bent.mT) / 2
        if not bool(torch.isfinite(bent).all()):
            return None
        values, vectors = torch.linalg.eigh(bent)
        return vectors[:, 0] if float(values[0]) < -1e-8 * float(values.abs().max()) else None
