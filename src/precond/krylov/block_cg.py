"""Block conjugate gradients: several right-hand sides of one system share their directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import norm

_dependent = 1e-12


@final
@dataclasses.dataclass(frozen=True)
class BlockCG(Iteration):
    """Block CG for ``A X = B`` with ``A`` symmetric (Hermitian) positive definite, a column for each right-hand side.

    With ``R = B - A X`` and ``D`` an orthonormal basis of ``P R``, columns as in the paper::

        Q = A D,    alpha = (D^H Q)^-1 D^H R,    X = X + D alpha,    R = R - Q alpha
        beta = -(D^H Q)^-1 Q^H P R,              D = orth(P R + D beta)

    Each column of ``X`` minimizes the energy norm of its error over the sum of all Krylov spaces, so ``s`` right-hand
    sides need at most ``n / s`` steps of ``s`` products. ``orth`` drops directions that depend on others: equal,
    dependent or finished right-hand sides do not break it down.

    (D. P. O'Leary, *The block conjugate gradient algorithm and related methods*, 1980; without breakdown: H. Ji, Y. Li,
    *A breakdown-free block conjugate gradient method*, 2017.)
    """

    symmetric_operator: ClassVar[bool] = True
    definite_operator: ClassVar[bool] = True
    symmetric_preconditioner: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = True
    block: ClassVar[bool] = True

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residuals are the recurrence's, one for each row."""
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        d = orthonormal(precondition(r))
        vanished = torch.finfo(norm(r).dtype).eps ** 2 * norm(r).max()
        while len(d) and bool((norm(r) > vanished).any()):
            q = operator.matvec(d)
            gram = d.conj() @ q.mT
            factor, info = torch.linalg.cholesky_ex((gram + gram.mH) / 2)
            if bool(info.any()):
                yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
                return
            alpha = torch.cholesky_solve(d.conj() @ r.mT, factor)
            x = x + alpha.mT @ d
            r = r - alpha.mT @ q
            yield Progress(norm(r), x.clone)
            z = precondition(r)
            beta = torch.cholesky_solve(q.conj() @ z.mT, factor)
            d = orthonormal(z - beta.mT @ d)
        yield Progress(norm(r), x.clone, solved=True)


def orthonormal(rows: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of the rows, fewer where they are dependent; ``[s, n] -> [k, n]``."""
    sizes = norm(rows)
    rows = rows[sizes > 0] / sizes[sizes > 0, None]
    if not len(rows) or not bool(torch.isfinite(rows).all()):
        return rows[:0]
    q, triangle = torch.linalg.qr(rows.mT)
    u, values, _ = torch.linalg.svd(triangle)
    tolerance = max(_dependent, 10 * torch.finfo(values.dtype).eps) * values[0]
    return (u[:, values > tolerance].mT @ q.mT).contiguous()
