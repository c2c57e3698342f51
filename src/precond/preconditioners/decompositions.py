"""Ways to keep a symmetric factor decomposed, so that few bits hold what matters of it."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, final

import torch
from torch import Tensor

from precond.core import Role, rests_as
from precond.math.factors.bjorck import bjorck
from precond.math.factors.orthogonal import orthogonal
from precond.math.factors.root_methods import CoupledNewton, InverseRoot
from precond.math.machine.products import fast_products


class Decomposition(abc.ABC):
    """How symmetric, positive definite matrices ``A`` are kept, turned over a little at a time, and rooted."""

    @abc.abstractmethod
    def init(self, scale: float, like: Tensor) -> Any:
        """Return the state of ``scale I`` for every matrix of a batch shaped like ``like``, ``[batch, n, n]``."""

    @abc.abstractmethod
    def absorb(self, state: Any, gram: Tensor, beta: float, chosen: Tensor) -> None:
        """Set ``A <- beta A + (1 - beta) gram`` in place, for chosen members ``[batch]`` whose result is finite."""

    @abc.abstractmethod
    def root(self, state: Any, p: float) -> tuple[Tensor, Tensor]:
        """Return ``A^(-1/p)``, shape ``[batch, n, n]``, and a mask ``[batch]`` of members without one."""


@dataclasses.dataclass
class SpectrumState:
    """State of `Spectrum`.

    Attributes:
        vectors: Eigenvectors in columns, ``[batch, n, n]``.
        values: Eigenvalues, ``[batch, n]``.
    """

    vectors: Tensor = rests_as(Role.ORTHOGONAL)
    values: Tensor = rests_as(Role.EXACT)


@final
@dataclasses.dataclass(frozen=True)
class Spectrum(Decomposition):
    """``A = V diag(s) V^T``, with vectors that are made orthogonal again before they are used.

    A new ``A`` turns the vectors by one step of orthogonal iteration, ``V <- qr(A V)``, and ``s = diag(V^T A V)``; the
    root is ``V diag(s + eps max(s))^(-1/p) V^T``.

    Source: Wang et al., arXiv 2405.18144.

    Attributes:
        eps: Ridge of the root, relative to the largest eigenvalue.
        before_turning: Bjorck's steps before the vectors are turned.
        before_rooting: Bjorck's steps before the root is taken.
    """

    eps: float = 1e-6
    before_turning: int = 1
    before_rooting: int = 4

    def init(self, scale: float, like: Tensor) -> SpectrumState:
        """Start with the identity for vectors."""
        identity = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
        values = torch.full(like.shape[:-1], scale, dtype=like.dtype, device=like.device)
        return SpectrumState(identity.expand(like.shape).clone(), values)

    def absorb(self, state: SpectrumState, gram: Tensor, beta: float, chosen: Tensor) -> None:
        """Put the matrix together, add to it, and take one step of orthogonal iteration."""
        vectors = bjorck(state.vectors, self.before_turning)
        with fast_products(vectors, vectors.numel() * vectors.shape[-1]):
            matrix = torch.bmm(vectors * state.values.unsqueeze(-2), vectors.mT)
            matrix = matrix.mul_(beta).add_(gram, alpha=1.0 - beta)
            chosen = chosen & matrix.flatten(1).isfinite().all(1)
            product = torch.where(chosen[:, None, None], torch.bmm(matrix, vectors), state.vectors)
            turned = orthogonal(product)
            values = (turned * torch.bmm(matrix, turned)).sum(-2)
        chosen = chosen & turned.sum((-2, -1)).isfinite() & values.isfinite().all(-1)
        state.vectors.copy_(torch.where(chosen[:, None, None], turned, state.vectors))
        state.values.copy_(torch.where(chosen[:, None], values, state.values))

    def root(self, state: SpectrumState, p: float) -> tuple[Tensor, Tensor]:
        """Raise the eigenvalues; negative ones, which rounding makes, count as zero."""
        vectors, values = bjorck(state.vectors, self.before_rooting), state.values.clamp(min=0.0)
        raised = values + self.eps * values.amax(-1, keepdim=True)
        tiny = torch.finfo(values.dtype).tiny
        half = vectors * raised.clamp(min=tiny).pow(-0.5 / p).unsqueeze(-2)
        with fast_products(half, half.numel() * half.shape[-1]):
            roots = torch.bmm(half, half.mT)
        return roots, ~roots.flatten(1).isfinite().all(1)


@dataclasses.dataclass
class CholeskyState:
    """State of `Cholesky`.

    Attributes:
        lower: Lower triangular factors, ``[batch, n, n]``.
    """

    lower: Tensor = rests_as(Role.TRIANGULAR)


@final
@dataclasses.dataclass(frozen=True)
class Cholesky(Decomposition):
    """``A = C C^T`` with ``C`` lower triangular: positive definite however ``C`` is rounded.

    A new ``A`` is factored anew, with ``ridge I`` added to it each time.

    Source: Li et al., arXiv 2412.10663.

    Attributes:
        ridge: Added to the diagonal before factoring.
        take: How to take the root.
    """

    ridge: float = 1e-6
    take: InverseRoot = CoupledNewton()

    def init(self, scale: float, like: Tensor) -> CholeskyState:
        """Start with the root of ``scale`` on the diagonal."""
        identity = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
        return CholeskyState((scale**0.5 * identity).expand(like.shape).clone())

    def absorb(self, state: CholeskyState, gram: Tensor, beta: float, chosen: Tensor) -> None:
        """Multiply out, add, and factor."""
        matrix = torch.baddbmm(gram, state.lower, state.lower.mT, beta=1.0 - beta, alpha=beta)
        matrix.diagonal(dim1=-2, dim2=-1).add_(self.ridge)
        chosen = chosen & matrix.flatten(1).isfinite().all(1)
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        lower, info = torch.linalg.cholesky_ex(torch.where(chosen[:, None, None], matrix, identity))
        chosen = chosen & (info == 0)
        state.lower.copy_(torch.where(chosen[:, None, None], lower, state.lower))

    def root(self, state: CholeskyState, p: float) -> tuple[Tensor, Tensor]:
        """Multiply out and take the root."""
        return self.take(torch.bmm(state.lower, state.lower.mT), p)
