"""Tall least-squares problems of given condition, and their backward errors by dense algebra."""

from __future__ import annotations

import numpy as np
import scipy.linalg

UNIT = np.finfo(float).eps / 2


def tall(m: int, n: int, condition: float, residual: float, seed: int = 0, *, coherent: bool = False):
    """Return ``A``, ``b``: singular values from one down to ``1 / condition``, residual of the given norm.

    A coherent matrix has almost all of its mass in its first ``n`` rows.
    """
    rng = np.random.default_rng(seed)
    u = np.eye(m, n) + 1e-8 * rng.standard_normal((m, n)) if coherent else rng.standard_normal((m, n))
    u, v = np.linalg.qr(u)[0], np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (u * np.geomspace(1, 1 / condition, n)) @ v.T
    x, r = rng.standard_normal(n), rng.standard_normal(m)
    for _ in range(2):
        r -= u @ (u.T @ r)
    return a, a @ (x / np.linalg.norm(x)) + residual * r / np.linalg.norm(r)


def backward_error(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> float:
    """Return the smallest ``||[E, theta f]||_F / ||A||_F`` for which ``x`` is exact, ``theta = ||A||_F / ||b||``.

    The theorem of B. Walden, R. Karlson, J. Sun (1995): with ``phi^2 = nu ||r||^2 / ||x||^2`` the error is ``min(phi,
    smallest singular value of [A, phi (I - r r' / ||r||^2)])``, where ``nu = theta^2 ||x||^2 / (1 + theta^2 ||x||^2)``.
    The rows are first reduced to ``n + 1`` by a QR factorization of ``[A, r]``.
    """
    r = b - a @ x
    size, residual = np.linalg.norm(a), np.linalg.norm(r)
    theta = size / np.linalg.norm(b)
    scale = theta * np.linalg.norm(x)
    phi = scale / np.hypot(1, scale) * residual / np.linalg.norm(x)
    triangle = scipy.linalg.qr(np.column_stack([a, r]), mode="r")[0][: a.shape[1] + 1]
    small, direction = triangle[:, :-1], triangle[:, -1:] / residual
    stacked = np.hstack([small, phi * (np.eye(len(small)) - direction @ direction.T)])
    return min(phi, np.linalg.svd(stacked, compute_uv=False)[-1]) / size
