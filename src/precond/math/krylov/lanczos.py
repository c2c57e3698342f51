"""The Lanczos process on a symmetric (Hermitian) operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Tridiagonal:
    """What the Lanczos process found, for each starting vector.

    Attributes:
        diagonal: ``alpha_1 .. alpha_k``, shape ``[batch, k]``.
        beside: ``beta_1 .. beta_{k-1}``, shape ``[batch, k - 1]``; zero from where an invariant subspace was found.
        last: ``beta_k``, the norm of the remainder, shape ``[batch]``.
        basis: The Lanczos vectors, shape ``[batch, k, n]``.
    """

    diagonal: Tensor
    beside: Tensor
    last: Tensor
    basis: Tensor

    def matrix(self) -> Tensor:
        """Return the tridiagonal matrices, ``[batch, k, k]``."""
        beside = torch.diag_embed(self.beside, 1)
        return torch.diag_embed(self.diagonal) + beside + beside.mT

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Return the eigenvalues, ascending, ``[batch, k]``, and the eigenvectors in columns, ``[batch, k, k]``."""
        return torch.linalg.eigh(self.matrix())


def lanczos(matvec: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tridiagonal:
    """Run the Lanczos process, reorthogonalized fully and twice.

    ``beta_j q_{j+1} = A q_j - alpha_j q_j - beta_{j-1} q_{j-1}``. When an invariant subspace is found, that is when
    ``beta_j`` is at rounding, the process of that row ends: further ``alpha`` and ``beta`` are zero, and so are the
    vectors, so that functions of the matrix keep their value.

    Args:
        matvec: Maps rows ``[batch, n]`` to ``A`` times each.
        start: Starting vectors, shape ``[batch, n]``, not zero.
        steps: Number of steps, at most ``n`` are taken.

    Returns:
        The tridiagonal matrices and the basis.
    """
    q, _ = _direction(start)
    basis, diagonal, beside = q.unsqueeze(1), [], []
    size = torch.zeros_like(q[:, 0].real)
    beta = size
    for step in range(min(steps, start.shape[-1])):
        if step > 0:
            basis = torch.cat([basis, q.unsqueeze(1)], 1)
            beside.append(beta)
        w = matvec(q)
        alpha = torch.linalg.vecdot(q, w).real
        diagonal.append(alpha)
        w = w - q * alpha.unsqueeze(-1)
        for _ in range(2):
            w = w - (basis.mT @ (basis.conj() @ w.unsqueeze(-1))).squeeze(-1)
        size = torch.maximum(size, alpha.abs() + beta)
        q, beta = _direction(w)
        beta = torch.where(beta > 10 * torch.finfo(beta.dtype).eps * size, beta, 0)
        q = torch.where(beta.unsqueeze(-1) > 0, q, 0)
    empty = size.new_zeros(len(size), 0)
    return Tridiagonal(torch.stack(diagonal, 1), torch.stack(beside, 1) if beside else empty, beta, basis)


def _direction(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows divided by their lengths, and these, also where squares would vanish or overflow."""
    largest = w.abs().amax(-1, keepdim=True)
    w = w / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    return w / torch.where(length > 0, length, 1), (largest * length).squeeze(-1)
