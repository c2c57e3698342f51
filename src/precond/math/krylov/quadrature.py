"""Traces of functions and spectral densities of symmetric operators, by stochastic Lanczos quadrature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.math.krylov.lanczos import Tridiagonal, lanczos

_rounding = 1e-14  # relative change of a rule that says nothing


@dataclasses.dataclass(frozen=True)
class Quadrature:
    """A spectral measure as seen from random vectors.

    Attributes:
        nodes: Ritz values, shape ``[probes, steps]``.
        weights: Their weights, which sum to one for each probe; shape ``[probes, steps]``.
        size: Dimension of the operator.
        half: The same from half the steps; ``None`` where it is not known.
        ended: Probes whose process found an invariant subspace, and whose rule is exact; shape ``[probes]``.
        process: The tridiagonal matrices, without their basis; ``None`` where they are not known.
    """

    nodes: Tensor
    weights: Tensor
    size: int
    half: Quadrature | None = None
    ended: Tensor | None = None
    process: Tridiagonal | None = None

    def trace(self, function: Callable[[Tensor], Tensor], *, end: float | None = None) -> tuple[float, float]:
        """Estimate ``tr f(A)``, with its error from both sources: the probes and the steps.

        The standard error over the probes knows nothing of steps: every sign vector gives a diagonal matrix the same
        trace, right or wrong. What the steps lack is added to it:

        * With a bound ``end`` of the spectrum it is half the distance between the rules of Gauss and Gauss-Radau, the
          latter with a node at ``end``, and the estimate is their mean. The two enclose ``v^T f(A) v`` of each probe if
          derivatives of ``f`` alternate in sign and ``end`` is below the spectrum (``1 / t``, ``log``, roots,
          ``exp(-t)``), or if they are positive and ``end`` is above it (``exp``). (G. H. Golub, G. Meurant, *Matrices,
          moments and quadrature*, 1994.)
        * Without one it is what half the steps would have changed on average, ``d``; more where a quarter would have
          changed less than twice that, by the geometric series that the two suggest; and infinite where it would have
          changed less than ``d``, or is no step: then nothing is known, as for ``1 / t`` at a condition of 1e6 after 20
          steps, where no node has come near the end of the spectrum that matters.

        Args:
            function: ``f``, elementwise; nodes of no weight are not shown to it.
            end: No eigenvalue lies beyond it.

        Returns:
            The estimate, and its error (infinite for a single probe).

        Raises:
            ValueError: ``end`` is within the spectrum, or the function has no value somewhere in it.
        """
        each = self._each(function)
        if end is not None:
            other = self._to(end)._each(function)
            each, lack = (each + other) / 2, float((each - other).mean().abs()) / 2
        else:
            lack = self._lack(function)
        count = len(each)
        error = float(each.std() / count**0.5) if count > 1 else float("inf")
        return float(each.mean()), error + lack

    def _lack(self, function: Callable[[Tensor], Tensor]) -> float:
        """Return an estimate of what more steps would change."""
        if self.half is None:
            return 0.0
        last = self._change(self, self.half, function)
        if last <= _rounding * float(self._each(function).abs().max()):
            return last
        before = 0.0 if self.half.half is None else self._change(self.half, self.half.half, function)
        ratio = last / before if before > 0 else float("inf")
        return last * max(1.0, ratio / (1 - ratio)) if ratio < 1 else float("inf")

    def _change(self, after: Quadrature, before: Quadrature, function: Callable[[Tensor], Tensor]) -> float:
        change = after._each(function) - before._each(function)
        return float((change if self.ended is None else torch.where(self.ended, 0, change)).mean().abs())

    def _to(self, end: float) -> Quadrature:
        """Return the rule with one more node, at ``end``."""
        if self.process is None:
            raise ValueError("a bound of the spectrum needs the tridiagonal matrices: take lanczos_quadrature")
        inner = torch.where(self.weights > 0, self.nodes, self.nodes[:, -1:])
        if bool((inner <= end).any() and (inner >= end).any()):
            raise ValueError(f"end = {end} lies within the spectrum: give a bound of it")
        found = self.process
        shifted = found.matrix() - end * torch.eye(inner.shape[1], dtype=inner.dtype, device=inner.device)
        unit = shifted.abs().amax((1, 2))  # squares neither vanish nor overflow
        right = torch.zeros_like(inner)
        right[:, -1] = (found.last / unit).square()
        extra = end + unit * torch.linalg.solve(shifted / unit[:, None, None], right)[:, -1]
        more = Tridiagonal(
            torch.cat([found.diagonal, extra.unsqueeze(1)], 1),
            torch.cat([found.beside, found.last.unsqueeze(1)], 1),
            torch.zeros_like(found.last),
            found.basis,
        )
        return Quadrature(*_rule(more), self.size)

    def _each(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the estimate of each probe."""
        shown = torch.where(self.weights > 0, self.nodes, self.nodes[:, -1:])
        values = function(shown)
        if bool(values.isnan().any()):
            at = float(shown[values.isnan()][0])
            raise ValueError(f"the function has no value at {at:.3g}, within the spectrum: it must have one")
        return self.size * torch.where(self.weights > 0, self.weights * values, 0).sum(1)

    def density(self, at: Tensor, width: float) -> Tensor:
        """Return the spectral density at points, smoothed by normal kernels of standard deviation ``width``."""
        if not width > 0:
            raise ValueError(f"a density is smoothed by kernels of a positive width, not {width}")
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
    rule, taken = None, found.diagonal.shape[1]
    for count in sorted({taken // 4, taken // 2} - {0}):
        part = Tridiagonal(found.diagonal[:, :count], found.beside[:, : count - 1], found.last, found.basis)
        rule = Quadrature(*_rule(part), size, rule)
    return Quadrature(*_rule(found), size, rule, ended, dataclasses.replace(found, basis=found.basis[:, :0]))


def _rule(found: Tridiagonal) -> tuple[Tensor, Tensor]:
    """Return nodes and weights; what is at rounding weighs nothing."""
    nodes, vectors = found.ritz()
    weights = vectors[:, 0].abs().square()
    return nodes, torch.where(weights > 10 * torch.finfo(weights.dtype).eps ** 2, weights, 0)
