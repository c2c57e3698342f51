"""Traces of functions and spectral densities of symmetric operators, by stochastic Lanczos quadrature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.math.lanczos import Tridiagonal, lanczos


@dataclasses.dataclass(frozen=True)
class Quadrature:
    """A spectral measure as seen from random vectors.

    Attributes:
        nodes: Ritz values, shape ``[probes, steps]``.
        weights: Their weights, which sum to one for each probe; shape ``[probes, steps]``.
        size: Dimension of the operator.
        half: The same from half the steps; ``None`` where it is not known.
        ended: Probes whose process found an invariant subspace, and whose rule is exact; shape ``[probes]``.
    """

    nodes: Tensor
    weights: Tensor
    size: int
    half: Quadrature | None = None
    ended: Tensor | None = None

    def trace(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Estimate ``tr f(A)``, with an estimate of its error from both sources.

        The standard error over the probes knows nothing of steps: every sign vector gives a diagonal matrix the same
        trace, right or wrong. What half the steps would have changed on average is therefore added to it. That is an
        estimate, no bound: where ``f`` is dominated by an end of the spectrum that no node has come near, such as ``1 /
        t`` at a condition of 1e6 after 20 steps, both rules miss the same.

        Args:
            function: ``f``, elementwise; nodes of no weight are not shown to it.

        Returns:
            The estimate, and its error (infinite for a single probe).
        """
        each = self._each(function)
        count = len(each)
        error = float(each.std() / count**0.5) if count > 1 else float("inf")
        if self.half is not None:
            change = each - self.half._each(function)
            error += float((change if self.ended is None else torch.where(self.ended, 0, change)).mean().abs())
        return float(each.mean()), error

    def _each(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the estimate of each probe."""
        shown = torch.where(self.weights > 0, self.nodes, self.nodes[:, -1:])
        return self.size * torch.where(self.weights > 0, self.weights * function(shown), 0).sum(1)

    def density(self, at: Tensor, width: float) -> Tensor:
        """Return the spectral density at points, smoothed by normal kernels of standard deviation ``width``."""
        offsets = (at.reshape(-1, 1) - self.nodes.reshape(1, -1)) / width
        kernels = torch.exp(-offsets.square() / 2) / (width * (2 * torch.pi) ** 0.5)
        return (kernels @ self.weights.reshape(-1) / len(self.nodes)).reshape(at.shape)


def lanczos_quadrature(
    matvec: Callable[[Tensor], Tensor],
    size: int,
    *,
    probes: int = 10,
    steps: int = 40,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Quadrature:
    """Return Gauss quadratures of the spectral measures of random sign vectors.

    Each probe ``v`` runs ``steps`` of the Lanczos process; the eigenvalues of the tridiagonal matrix are the nodes, the
    squared first entries of its eigenvectors the weights, exact for polynomials of degree up to ``2 steps - 1``:
    ``v^T f(A) v / ||v||^2 ~ sum_i w_i f(t_i)``. (S. Ubaru, J. Chen, Y. Saad, *Fast estimation of tr(f(A)) via
    stochastic Lanczos quadrature*, 2017; for Hessians D. Granziol, S. Zohren, S. Roberts, 2022, arXiv 2006.09092.)

    Args:
        matvec: Maps rows ``[probes, size]`` to ``A`` times each, ``A`` symmetric.
        size: Dimension.
        probes: Number of random vectors.
        steps: Steps of the Lanczos process.
        seed: Seed of the signs.
        dtype: Type of the vectors.
        device: Where they live.

    Returns:
        The quadrature.

    Raises:
        ValueError: There is nothing to sample, or products are not finite.
    """
    if min(size, probes, steps) < 1:
        raise ValueError(f"quadrature needs size, probes and steps of at least 1, not {size}, {probes} and {steps}")
    signs = torch.randint(0, 2, (probes, size), generator=torch.Generator().manual_seed(seed))
    found = lanczos(matvec, signs.mul_(2).sub_(1).to(device, dtype), steps)
    if not bool(torch.isfinite(found.diagonal).all() and torch.isfinite(found.last).all()):
        raise ValueError("products with the operator are not finite: check it")
    ended = (found.last == 0) | (found.beside == 0).any(1)
    taken = max(1, found.diagonal.shape[1] // 2)
    half = Tridiagonal(found.diagonal[:, :taken], found.beside[:, : taken - 1], found.last, found.basis)
    return Quadrature(*_rule(found), size, Quadrature(*_rule(half), size), ended)


def _rule(found: Tridiagonal) -> tuple[Tensor, Tensor]:
    """Return nodes and weights; what is at rounding weighs nothing."""
    nodes, vectors = found.ritz()
    weights = vectors[:, 0].abs().square()
    return nodes, torch.where(weights > 10 * torch.finfo(weights.dtype).eps ** 2, weights, 0)
