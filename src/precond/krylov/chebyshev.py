"""Chebyshev's semi-iteration: no inner products, where the ends of the spectrum are known or estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import column, norm, ratio, real_inner

_margin = 1.05  # the largest Ritz value is below the largest eigenvalue
_probes = 20


@final
@dataclasses.dataclass(frozen=True)
class Chebyshev(Iteration):
    """Chebyshev's semi-iteration for ``A`` and ``P`` symmetric positive definite, spectrum of ``P A`` in ``[a, b]``.

    With ``theta = (a + b) / 2``, ``delta = (b - a) / 2``, ``sigma = theta / delta``, ``rho_0 = 1 / sigma``,
    ``d_0 = P r_0 / theta``::

        x = x + d,                         r = r - A d
        rho+ = 1 / (2 sigma - rho),        d = rho+ rho d + (2 rho+ / delta) P r

    the residual is that of the scaled Chebyshev polynomial, the least in the largest norm over ``[a, b]``. Steps take
    no inner products (the norm that is reported is all there is).

    (G. H. Golub, R. S. Varga, *Chebyshev semi-iterative methods, successive overrelaxation iterative methods, and
    second order Richardson iterative methods*, 1961.)

    Ends that are not given are the outer Ritz values of 20 steps of the Lanczos process of ``P A`` from a random vector
    (seeded), the largest times 1.05. A smallest one that is too large slows the iteration; a largest one that is too
    small makes it diverge: where the residual grows by a hundred, it is raised by half and the recurrence starts again.

    Each row of ``b`` is a system of its own.

    Attributes:
        smallest: ``a``; estimated where ``None``.
        largest: ``b``; estimated where ``None``.
    """

    smallest: float | None = None
    largest: float | None = None

    symmetric_operator: ClassVar[bool] = True
    definite_operator: ClassVar[bool] = True
    symmetric_preconditioner: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ends."""
        low, high = self.smallest, self.largest
        if any(end is not None and not end > 0 for end in (low, high)) or (low and high and low > high):
            raise BadInputError(f"chebyshev needs 0 < smallest <= largest, not {low} and {high}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each step; the residual is kept by a recurrence."""
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        low, high = self.smallest, self.largest
        if low is None or high is None:
            ends = _ritz(operator, precondition, b)
            if ends is None:
                yield Progress(norm(r), x.clone, failure=Status.FAILED_INDEFINITE_OPERATOR)
                return
            low = ends[0] if low is None else low
            high = max(_margin * ends[1], low) if high is None else high
        while True:
            theta, delta = (high + low) / 2, (high - low) / 2
            limit = 100 * norm(r)
            rho = delta / theta
            d = precondition(r) / theta
            while True:
                if not bool(d.any()):
                    yield Progress(norm(r), x.clone, solved=True)
                    return
                x = x + d
                r = r - operator.matvec(d)
                size = norm(r)
                yield Progress(size, x.clone)
                if bool((size > limit).any()):
                    break
                after = 1 / (2 * theta - delta * rho)  # rho+ / delta, finite also where the interval is a point
                d = (delta * after * rho) * d + (2 * after) * precondition(r)
                rho = delta * after
            high *= 1.5


def _ritz(operator: Operator, precondition: Map, like: Tensor) -> tuple[float, float] | None:
    """Return the outer Ritz values of ``P A`` over all rows, by the Lanczos process; ``None`` if not positive.

    Every row starts from the same vector; a row whose space is exhausted repeats its first Ritz value.
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(1, like.shape[1], generator=generator, dtype=torch.float64).to(like.device, like.dtype)
    v = v.expand(len(like), -1).contiguous()
    before = torch.zeros_like(v)
    z = precondition(v)
    beta = real_inner(v, z).clamp(min=0).sqrt()
    if not bool((beta > 0).all()):
        return None
    v, z = v / column(beta), z / column(beta)
    diagonal, beside, alive = list[Tensor](), list[Tensor](), torch.ones_like(beta, dtype=torch.bool)
    beta = torch.zeros_like(beta)
    for _ in range(min(_probes, like.shape[1])):
        w = operator.matvec(z) - column(beta) * before
        alpha = real_inner(z, w)
        w = w - column(alpha) * v
        diagonal.append(torch.where(alive, alpha, diagonal[0] if diagonal else alpha))
        z = precondition(w)
        squared = real_inner(w, z)
        alive = alive & (squared > (1e-7 * alpha).square())
        if not bool(alive.any()):
            break
        beta = torch.where(alive, squared, 0).sqrt()
        beside.append(beta)
        inverse = column(ratio(torch.ones_like(beta), beta))
        before, v, z = v, w * inverse, z * inverse
    middle = torch.stack(diagonal, dim=-1).double()
    if not bool(torch.isfinite(middle).all()):
        return None
    off = torch.stack([*beside, torch.zeros_like(beta)], dim=-1).double()[:, : len(diagonal) - 1]
    tridiagonal = middle.diag_embed() + off.diag_embed(1) + off.diag_embed(-1)
    values = torch.linalg.eigvalsh(tridiagonal)
    low, high = float(values.min()), float(values.max())
    return (low, high) if low > 0 else None
