"""Eigendecompositions of batches of symmetric matrices that survive bad members."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.math.factors.orthogonal import complete_qr, orthogonal
from precond.math.factors.revealing_qr import rounding
from precond.math.machine.products import fast_products

_ATTEMPTS: tuple[tuple[float, torch.dtype | None], ...] = ((0.0, None), (1.0, None), (0.0, torch.float64))
"""Multiples of the machine epsilon to add to the scaled diagonal, and the dtype to work in, in order of attempt."""


def inf_norm(matrices: Tensor) -> Tensor:
    """Return the largest absolute row sum of each matrix, shape ``[batch]``: a bound on every eigenvalue."""
    return matrices.abs().sum(-1).amax(-1)


def safe_eigh(matrices: Tensor, last: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose symmetric matrices; one bad member never spoils the others, and nothing raises.

    Every member is first divided by a bound on its largest eigenvalue, so that neither huge nor tiny entries overflow.
    If the batch then fails, it is tried with a scaled jitter on the diagonal, then in float64, then member by member.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``; only the lower triangles are read.
        last: Values ``[batch, n]`` and vectors ``[batch, n, n]`` for the members that fail;
            zeros and the identity unless given.

    Returns:
        Eigenvalues ``[batch, n]``, ascending; eigenvectors ``[batch, n, n]`` in columns; and a mask ``[batch]``
        of the members that failed, because they hold an entry that is not finite or no attempt succeeded.
    """
    values, vectors, scale, failed = scaled_eigh(matrices)
    values = values * scale[:, None]
    if last is not None and bool(failed.any()):
        values = torch.where(failed[:, None], last[0], values)
        vectors = torch.where(failed[:, None, None], last[1], vectors)
    return values, vectors, failed


def scaled_eigh(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decompose symmetric matrices, each divided by a bound on its largest eigenvalue, as `safe_eigh` does.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``; only the lower triangles are read.

    Returns:
        Eigenvalues ``[batch, n]`` of the divided matrices, ascending; eigenvectors ``[batch, n, n]`` in columns; what
        each matrix was divided by, ``[batch]``, one where there is nothing to divide by; and a mask ``[batch]`` of the
        members that failed, whose values are zero and whose vectors are the identity.
    """
    bound = inf_norm(matrices)
    finite = bound < math.inf  # NaN is not
    scale = torch.where(finite & (bound > 0), bound, 1.0)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    values, vectors, solved = _decompose(torch.where(finite[:, None, None], matrices / scale[:, None, None], identity))
    good = solved & finite
    vectors = torch.where(good[:, None, None], vectors, identity)
    return torch.where(good[:, None], values, 0.0), vectors, scale, ~good


def all_eigenvectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of positive semidefinite matrices as `safe_eigh` finds them, null spaces settled.

    Args:
        matrices: Shape ``[batch, n, n]``.

    Returns:
        Eigenvectors ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask ``[batch]`` of members that
        failed; theirs are the identity.
    """
    values, vectors, failed = safe_eigh(matrices)
    return _settled(vectors.flip(-1), values.flip(-1)), failed


def _settled(vectors: Tensor, values: Tensor) -> Tensor:
    """Return eigenvectors, largest eigenvalue first, with a null space that depends on the others alone.

    Rounding errors choose a basis of a null space, so that runs which differ by rounding would part where a basis is
    all that matters. The reflections that reduce the other vectors give one that moves no more than these do.
    """
    null = is_rounding(values)
    if not bool(null.any()):
        return vectors
    null = null.unsqueeze(-2)
    return torch.where(null, orthogonal(torch.where(null, 0.0, vectors)), vectors)


def is_rounding(lengths: Tensor) -> Tensor:
    """Whether nothing but rounding errors can be left of some of the lengths of a member, ``[batch, n]``."""
    return lengths <= rounding(lengths.shape[-1], lengths.dtype) * lengths.amax(-1, keepdim=True)


def gram_eigenvectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return all eigenvectors of ``V V^T`` for matrices with fewer columns than rows, without forming the product.

    With ``V = Q R`` they are those of the small ``R R^T``, turned by ``Q``; the null space gets the rest of ``Q``, or
    is settled as in `all_eigenvectors` where the columns are dependent.

    Args:
        vectors: Shape ``[batch, n, k]`` with ``k <= n``.

    Returns:
        Eigenvectors ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask ``[batch]`` of members that
        failed; theirs are the identity.
    """
    vectors, _, failed = _left_vectors(vectors)
    return _unless(failed, vectors), failed


def singular_vectors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all eigenvectors of ``M M^T`` and of ``M^T M`` from one decomposition, that of the smaller.

    With the eigenvectors ``U`` of ``M M^T``, the columns of ``M^T U`` are those of ``M^T M`` times the singular values:
    orthogonal but for rounding errors, which are as large as the largest column in all of them. A QR decomposition
    takes them out, largest first. Null spaces are settled as in `all_eigenvectors`.

    Args:
        matrices: Shape ``[batch, m, n]``.

    Returns:
        Eigenvectors ``[batch, m, m]`` and ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask
        ``[batch]`` of members that failed; theirs are the identity.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        right, left, failed = singular_vectors(matrices.mT)
        return left, right, failed
    left, null, failed = _left_vectors(matrices)
    with fast_products(matrices, matrices.numel() * matrices.shape[-1]):
        scaled = torch.bmm(matrices.mT, left[..., : matrices.shape[-1]])
    right = orthogonal(torch.where(null[:, None], 0.0, scaled))
    failed = failed | ~right.sum((-2, -1)).isfinite()
    return _unless(failed, left), _unless(failed, right), failed


def _left_vectors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all eigenvectors ``U`` of ``M M^T`` for matrices with at least as many rows as columns.

    Args:
        matrices: Shape ``[batch, n, k]``.

    Returns:
        ``U``, shape ``[batch, n, n]``, largest eigenvalue first; which of its first ``k`` columns belong to the null
        space, ``[batch, k]``; and a mask ``[batch]`` of members that failed.
    """
    n, k = matrices.shape[-2:]
    finite = matrices.sum((-2, -1)).isfinite()
    if not bool(finite.all()):
        finite = matrices.isfinite().all(-1).all(-1)
        matrices = torch.where(finite[:, None, None], matrices, 0.0)
    q, r = complete_qr(matrices) if k < n else (None, matrices)
    with fast_products(matrices, matrices.numel() * k):
        values, small, failed = safe_eigh(torch.bmm(r, r.mT))
        values, small = values.flip(-1), small.flip(-1)
        if q is None:
            q = small
        else:
            q[..., :k] = torch.bmm(q[..., :k], small)
    null = is_rounding(values)
    if bool(null.any()):
        q = _settled(q, torch.nn.functional.pad(values, (0, n - k)))
    return q, null, failed | ~finite | ~q.sum((-2, -1)).isfinite()


def _unless(failed: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors ``[batch, n, n]``, but the identity for members that failed."""
    if not bool(failed.any()):
        return vectors
    identity = torch.eye(vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)
    return torch.where(failed[:, None, None], identity, vectors)


def _decompose(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, vectors and a mask of success, splitting the batch when no attempt on the whole succeeds."""
    for jitter, dtype in _ATTEMPTS:
        attempt = _attempt(matrices, jitter, dtype)
        if attempt is not None:
            return *attempt, torch.ones(matrices.shape[0], dtype=torch.bool, device=matrices.device)
    if matrices.shape[0] <= 1:
        zeros = torch.zeros(matrices.shape[:-1], dtype=matrices.dtype, device=matrices.device)
        return zeros, matrices, torch.zeros(matrices.shape[0], dtype=torch.bool, device=matrices.device)
    parts = [_decompose(member) for member in matrices.split(1)]
    values, vectors, solved = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return values, vectors, solved


def _attempt(matrices: Tensor, jitter: float, dtype: torch.dtype | None) -> tuple[Tensor, Tensor] | None:
    """Return values and vectors in the dtype of ``matrices``, or ``None`` if that did not work for all of them."""
    work = matrices.to(dtype) if dtype is not None else matrices
    if jitter:
        shift = jitter * torch.finfo(work.dtype).eps
        work = work + shift * torch.eye(work.shape[-1], dtype=work.dtype, device=work.device)
    try:
        values, vectors = torch.linalg.eigh(work)
    except (torch.linalg.LinAlgError, RuntimeError):
        return None
    if not math.isfinite((values.sum() + vectors.sum()).item()):  # both are small where they are finite
        return None
    return values.to(matrices.dtype), vectors.to(matrices.dtype)
