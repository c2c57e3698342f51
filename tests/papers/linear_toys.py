"""Small systems for the linear papers, and what dense algebra says about them."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Iteration, Progress
from precond.operators import as_operator


def poisson(m: int) -> scipy.sparse.csr_array:
    """Return the five-point Laplacian on an m x m grid."""
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    one = scipy.sparse.eye_array(m)
    return scipy.sparse.csr_array(scipy.sparse.kron(second, one) + scipy.sparse.kron(one, second))


def symmetric(eigenvalues: list[float] | np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a dense symmetric matrix with these eigenvalues."""
    n = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    a = q @ np.diag(eigenvalues) @ q.T
    return (a + a.T) / 2


def steps(
    iteration: Iteration, a: object, b: np.ndarray, p: np.ndarray | None, count: int, x0: np.ndarray | None = None
) -> list[tuple[np.ndarray, Progress]]:
    """Return the iterate (NumPy, like ``b``) and the progress at the start and after each of ``count`` steps."""
    operator = as_operator(a)
    rows = torch.from_numpy(np.atleast_2d(b))
    start = torch.zeros(len(rows), operator.shape[1], dtype=rows.dtype) if x0 is None else torch.from_numpy(x0)[None]

    def precondition(v: Tensor) -> Tensor:
        return v if p is None else v @ torch.from_numpy(p).T

    seen = []
    for k, progress in enumerate(iteration.iterate(operator, rows, precondition, start)):
        x = progress.solution().numpy()
        seen.append((x if b.ndim == 2 else x[0], progress))
        if k == count:
            break
    return seen


def krylov_basis(a: np.ndarray, r: np.ndarray, k: int) -> np.ndarray:
    """Return an orthonormal basis of ``span(r, a r, ..., a^(k-1) r)``, by Gram-Schmidt twice on each new vector."""
    columns = [r / np.linalg.norm(r)]
    for _ in range(k - 1):
        w = a @ columns[-1]
        for _ in range(2):
            for q in columns:
                w = w - q * np.vdot(q, w)
        columns.append(w / np.linalg.norm(w))
    return np.stack(columns, axis=1)
