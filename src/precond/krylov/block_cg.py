"""Block conjugate gradients: several right-hand sides of one system share their directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import norm
from precond.math.krylov.blocks import combine, gram
from precond.math.krylov.vectors import dots, rows

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
        sizes = norm(r)
        yield Progress(sizes, x.clone)
        d = orthonormal(precondition(r))
        vanished = torch.finfo(sizes.dtype).eps ** 2 * sizes.max()
        while len(d) and bool((sizes > vanished).any()):
            q = operator.matvec(d)
            products = gram(d, q)
            factor, info = torch.linalg.cholesky_ex((products + products.mH) / 2)
            if bool(info.any()):
                yield Progress(sizes, x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
                return
            alpha = torch.cholesky_solve(gram(d, r), factor)
            combine(d, alpha, x)
            combine(q, -alpha, r)
            sizes = torch.from_numpy(dots(rows(r), rows(r)) ** 0.5).to(sizes)
            yield Progress(sizes, x.clone)
            z = precondition(r)
            w = z.clone()
            combine(d, -torch.cholesky_solve(gram(q, z), factor), w)
            d = orthonormal(w)
        yield Progress(sizes, x.clone, solved=True)


def orthonormal(vectors: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of vectors, fewer where they are dependent; ``[s, n] -> [k, n]``.

    By a Cholesky factor of their inner products, where that is accurate; by singular values where it is not.
    """
    products = gram(vectors, vectors)
    lengths = products.diagonal().real.sqrt()
    if bool((lengths > 0).all()) and bool(torch.isfinite(lengths).all()):
        factor, info = torch.linalg.cholesky_ex(products / (lengths.unsqueeze(1) * lengths))
        accurate = float(factor.diagonal().real.min()) > torch.finfo(lengths.dtype).eps ** 0.25
        if not bool(info.any()) and accurate:
            one = torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device)
            inverse = torch.linalg.solve_triangular(factor, one / lengths.to(one.dtype), upper=False)
            out = torch.zeros_like(vectors)
            combine(vectors, inverse.mT.contiguous(), out)
            return out
    return _independent(vectors)


def _independent(vectors: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of vectors, by QR and singular values."""
    sizes = norm(vectors)
    vectors = vectors[sizes > 0] / sizes[sizes > 0, None]
    if not len(vectors) or not bool(torch.isfinite(vectors).all()):
        return vectors[:0]
    q, triangle = torch.linalg.qr(vectors.mT)
    u, values, _ = torch.linalg.svd(triangle)
    tolerance = max(_dependent, 10 * torch.finfo(values.dtype).eps) * values[0]
    return (q @ u[:, values > tolerance]).contiguous().mT
