"""Sparse solutions of underdetermined systems by null-space tuning with hard thresholding and feedback."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import BadInputError, Status


@dataclasses.dataclass(frozen=True)
class SparseResult:
    """A sparse solution.

    Attributes:
        x: The solution, shape ``[n]``; zero outside of its support.
        support: Where it is not zero.
        status: ``CONVERGED_RESIDUAL`` when ``||b - A x|| <= rtol ||b||``, recomputed; ``FAILED_NON_FINITE`` where the
            solution is beyond what numbers of its type can express.
        residual: ``||b - A x|| / ||b||``.
        iterations: Supports that were tried.
    """

    x: Tensor
    support: Tensor
    status: Status
    residual: float
    iterations: int


@torch.no_grad()
def null_space_tuning(
    A: Tensor,
    b: Tensor,
    *,
    sparsity: int | Callable[[int], int] | None = None,
    rtol: float = 1e-10,
    max_iterations: int = 200,
) -> SparseResult:
    """Find a sparse solution of ``A x = b`` with fewer rows than columns: NST+HT+FB.

    From the least-norm solution, with ``T`` the places of the ``s`` largest entries of ``x``::

        u_T = x_T + (A_T^H A_T)^-1 A_T^H A_{T^c} x_{T^c},   u_{T^c} = 0        feedback: u_T = argmin ||A_T z - b||
        x   = u + A^H (A A^H)^-1 (b - A u)                                      back to the solutions, nearest to u

    (S. Li, Y. Liu, T. Mi, *Fast thresholding algorithms with feedbacks for sparse signal recovery*, 2012,
    arXiv 1204.3700; N. Han, S. Li, Z. Song, 2022, with ``s`` growing by a function of the iteration.) When a support
    comes back, so that a fixed ``s`` would cycle, ``s`` grows from there as in the adaptive form.

    Args:
        A: Shape ``[m, n]``, of full row rank.
        b: Shape ``[m]``.
        sparsity: ``s``, or a function of the iteration ``k = 1, 2, ..``; ``None`` means ``s = k``, the adaptive form.
        rtol: Relative tolerance of the residual.
        max_iterations: Limit on supports.

    Returns:
        The result; on failure the iterate of least residual.

    Raises:
        BadInputError: Shapes do not fit, or the rows are dependent.
    """
    if not (isinstance(A, Tensor) and isinstance(b, Tensor)):
        raise BadInputError(f"give torch tensors, not {type(A).__name__} and {type(b).__name__}: torch.from_numpy(A)")
    _check_limits(sparsity, rtol, max_iterations)
    rows, columns = A.shape if A.ndim == 2 else (0, 0)
    if A.ndim != 2 or b.shape != (rows,) or rows > columns:
        raise BadInputError(f"give A of shape [m, n] with m <= n, and b [m]; not {tuple(A.shape)} and {tuple(b.shape)}")
    if A.dtype != b.dtype or not (A.is_floating_point() or A.is_complex()):
        raise BadInputError(f"A and b must be of one type of floats, not {A.dtype} and {b.dtype}")
    if not bool(torch.isfinite(A).all() and torch.isfinite(b).all()):
        raise BadInputError("A or b has an entry that is not finite: remove or replace it")
    unit, size = _unit(A), _unit(b)
    A, b = A / unit, b / size  # solutions in another unit; squares neither vanish nor overflow
    factor, failed = torch.linalg.cholesky_ex(A @ A.mH)
    if bool(failed):
        raise BadInputError("the rows of A are dependent: leave out rows that repeat others")

    def nearest(residual: Tensor) -> Tensor:
        return A.mH @ torch.cholesky_solve(residual.unsqueeze(1), factor).squeeze(1)

    norm = float(torch.linalg.vector_norm(b))
    x, seen, extra = nearest(b), set[bytes](), 0
    best: tuple[float, Tensor, Tensor] | None = None
    for step in range(1, max_iterations + 1):
        wanted = step if sparsity is None else sparsity(step) if callable(sparsity) else sparsity
        count = max(1, min(wanted + extra, rows - (rows < columns)))  # any more solve, sparse or not
        support = x.abs().topk(count).indices.sort().values
        u = torch.zeros_like(x)
        u[support] = torch.linalg.lstsq(A[:, support], b.unsqueeze(1)).solution.squeeze(1)
        residual = b - A @ u
        relative = float(torch.linalg.vector_norm(residual)) / norm if norm > 0 else 0.0
        if best is None or relative < best[0]:
            best = (relative, u, support)
        if relative <= rtol:
            return _in_units(u, size / unit, support, A, b, rtol, relative, step)
        key = support.cpu().numpy().tobytes()
        extra += key in seen
        seen.add(key)
        x = u + nearest(residual)
    assert best is not None
    return SparseResult(best[1] * (size / unit), best[2], Status.STOPPED_STEPS, best[0], max_iterations)


def _in_units(
    u: Tensor, unit: float, support: Tensor, A: Tensor, b: Tensor, rtol: float, relative: float, step: int
) -> SparseResult:
    """Return the solution ``u`` of ``A u = b`` in the user's unit, which may be one that its type cannot express."""
    x = u * unit
    kept = x / unit if unit > 0 else torch.zeros_like(x)
    if not torch.equal(kept, u):
        norm = float(torch.linalg.vector_norm(b))
        relative = float(torch.linalg.vector_norm(b - A @ kept)) / norm if norm > 0 else 0.0
    status = Status.CONVERGED_RESIDUAL if relative <= rtol else Status.FAILED_NON_FINITE
    return SparseResult(x, support, status, relative, step)


def _unit(tensor: Tensor) -> float:
    """Return a power of two near the largest entry; one where there is none."""
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    return 2.0 ** math.frexp(largest)[1] if 0 < largest < 2.0**1000 else max(largest, 0.0) or 1.0


def _check_limits(sparsity: object, rtol: float, max_iterations: int) -> None:
    if not (sparsity is None or callable(sparsity)) and not _positive(sparsity):
        raise BadInputError(f"sparsity is a positive whole number, or a function of the iteration, not {sparsity!r}")
    if not 0 <= rtol < 1:
        raise BadInputError(f"rtol lies from 0 to 1, not {rtol!r}")
    if not _positive(max_iterations):
        raise BadInputError(f"max_iterations must be a positive whole number, not {max_iterations!r}")


def _positive(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) > 0
