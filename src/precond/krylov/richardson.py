"""Richardson's iteration, with a given step or the one of least residual."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import final

from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, inner, norm, ratio


@final
@dataclasses.dataclass(frozen=True)
class Richardson(Iteration):
    """Richardson's iteration ``x = x + alpha P r``, ``r = b - A x``.

    With a fixed ``alpha`` it converges where the spectral radius of ``I - alpha P A`` is below one: for a positive
    spectrum, where ``0 < alpha < 2 / lambda_max``. Without, each step takes the ``alpha`` of least residual::

        alpha = <A P r, r> / <A P r, A P r>

    which converges for every ``A P`` whose symmetric part is definite. Any linear preconditioner makes its stationary
    iteration: `Jacobi`, `SSOR`, an incomplete factorization (with ``alpha = 1``).

    (L. F. Richardson, *The approximate arithmetical solution by finite differences of physical problems involving
    differential equations*, 1911; the step of least residual: M. A. Krasnoselskii, S. G. Krein, 1952.)

    Each row of ``b`` is a system of its own.

    Attributes:
        step: ``alpha``; that of least residual where ``None``.
    """

    step: float | None = None

    def __post_init__(self) -> None:
        """Check the step."""
        if self.step is not None and not self.step > 0:
            raise BadInputError(f"richardson needs a positive step, not {self.step}; None chooses it")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is kept by a recurrence."""
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        while bool(r.any()):
            z = precondition(r)
            q = operator.matvec(z)
            alpha: float | Tensor
            if self.step is None:
                alpha = column(ratio(inner(q, r), inner(q, q)))
                if not bool(alpha.any()):
                    yield Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN)
                    return
            else:
                alpha = self.step
            x = x + alpha * z
            r = r - alpha * q
            yield Progress(norm(r), x.clone)
        yield Progress(norm(r), x.clone, solved=True)
