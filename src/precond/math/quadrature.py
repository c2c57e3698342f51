"""Traces of functions and spectral densities of symmetric operators, by stochastic Lanczos quadrature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.math.lanczos import lanczos


@dataclasses.dataclass(frozen=True)
class Quadrature:
    """A spectral measure as seen from random vectors.

    Attributes:
        nodes: Ritz values, shape ``[probes, steps]``.
        weights: Their weights, which sum to one for each probe; shape ``[probes, steps]``.
        size: Dimension of the operator.
    """

    nodes: Tensor
    weights: Tensor
    size: int

    def trace(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Estimate ``tr f(A)``, with the standard error over the probes.

        Args:
            function: ``f``, elementwise; nodes of no weight are not shown to it.

        Returns:
            The estimate, and its standard error (infinite for a single probe).
        """
        shown = torch.where(self.weights > 0, self.nodes, self.nodes[:, -1:])
        each = self.size * torch.where(self.weights > 0, self.weights * function(shown), 0).sum(1)
        count = len(each)
        error = float(each.std() / count**0.5) if count > 1 else float("inf")
        return float(each.mean()), error

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
    """
    signs = torch.randint(0, 2, (probes, size), generator=torch.Generator().manual_seed(seed))
    found = lanczos(matvec, signs.mul_(2).sub_(1).to(device, dtype), steps)
    nodes, vectors = found.ritz()
    weights = vectors[:, 0].abs().square()
    return Quadrature(nodes, torch.where(weights > 10 * torch.finfo(weights.dtype).eps ** 2, weights, 0), size)
