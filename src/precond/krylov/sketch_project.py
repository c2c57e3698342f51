"""Sketch and project: random blocks of equations, satisfied one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Need, Operator, Progress
from precond.krylov.inner import norm


@final
@dataclasses.dataclass(frozen=True)
class SketchProject(Iteration):
    """Project onto the solutions of a random sketch ``S' A x = S' b`` of the system, with a fresh sketch each time.

    With ``Y = A' S``, in the metric of the preconditioner ``P``::

        x <- x - P Y (Y' P Y)^+ S' r,        r = A x - b,        r <- r - A P Y (Y' P Y)^+ S' r

    so that the error shrinks in expectation by ``1 - gamma``, ``gamma`` the least eigenvalue of the mean projector, for
    any consistent system, symmetric or not. ``size=1`` with Gaussian sketches is the Gaussian Kaczmarz method, with
    rows randomized Kaczmarz (uniform probabilities); larger blocks converge in far fewer products.

    Source: R. M. Gower, P. Richtarik, *Randomized iterative methods for linear systems*, arXiv 1506.03296.

    Attributes:
        size: Columns of the sketch; ``None`` means half of the equations.
        sketch: ``"gaussian"``, or ``"rows"``: equations chosen at random without replacement.
        seed: Seed of a generator that each solve makes anew.
    """

    size: int | None = None
    sketch: Literal["gaussian", "rows"] = "gaussian"
    seed: int = 0
    needs: ClassVar[Need] = Need.OPERATOR | Need.ADJOINT

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.size is not None and self.size < 1:
            raise BadInputError(f"size must be at least 1, not {self.size}")
        if self.sketch not in ("gaussian", "rows"):
            raise BadInputError(f"sketch must be 'gaussian' or 'rows', not {self.sketch!r}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each block; the residual follows the recurrence of ``r``."""
        generator = torch.Generator(device=b.device).manual_seed(self.seed)
        x = x0.clone()
        r = operator.matvec(x) - b
        size = min(self.size or max(1, b.shape[1] // 2), b.shape[1])
        matrix = operator.dense() if self.sketch == "rows" else None
        yield Progress(norm(r), x.clone)
        while True:
            y, sketched = self._sketched(operator, matrix, r, size, generator)
            dual = precondition(y)
            weights = _least(y, dual, sketched)
            step = weights @ dual
            x -= step
            r -= operator.matvec(step)
            yield Progress(norm(r), x.clone)

    def _sketched(
        self, operator: Operator, matrix: Tensor | None, r: Tensor, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of ``S' A``, ``[size, n]``, and ``S' r``, ``[batch, size]``."""
        m = r.shape[1]
        if self.sketch == "rows":
            chosen = torch.randperm(m, generator=generator, device=r.device)[:size]
            if matrix is not None:
                return matrix[chosen], r[:, chosen]
            units = torch.zeros(size, m, dtype=r.dtype, device=r.device)
            units[torch.arange(size, device=r.device), chosen] = 1
            return operator.rmatvec(units), r[:, chosen]
        sketch = torch.randn(size, m, dtype=r.dtype, device=r.device, generator=generator)
        return operator.rmatvec(sketch), r @ sketch.mT


def _least(y: Tensor, dual: Tensor, sketched: Tensor) -> Tensor:
    """Return ``(Y' P Y)^+ s`` for each row ``s`` of ``sketched``, of least norm."""
    gram = y @ dual.mH
    gram = (gram + gram.mH) / 2
    factor, info = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal().abs()
    cutoff = 1e3 * torch.finfo(gram.dtype).eps ** 0.5
    if int(info) == 0 and bool(diagonal.min() > cutoff * diagonal.max()):
        return torch.cholesky_solve(sketched.mH, factor).mH
    return sketched @ torch.linalg.pinv(gram, hermitian=True)
