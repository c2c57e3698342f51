"""What the tests of 4-bit methods share: the quantizer and the two base optimizers, written out in NumPy."""

from __future__ import annotations

import numpy as np

LINEAR_2 = np.array([(-1 if x < 0 else 1) * x * x for x in np.linspace(-1, 1, 16)])
LINEAR_2[7] = 0.0
DYNAMIC = np.sort(np.array([0, 1, *(s * v for s in (1, -1) for v in (
    0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875))]))  # fmt: skip


def nearest(x: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Return the nearest entries of a table, the lower of two."""
    return book[np.abs(x[:, None] - book).argmin(1)]


def rounded(flat: np.ndarray, book: np.ndarray = LINEAR_2, block: int = 64) -> np.ndarray:
    """Return a vector rounded block by block."""
    out = np.empty_like(flat)
    for start in range(0, len(flat), block):
        part = flat[start : start + block]
        scale = np.abs(part).max() or 1.0
        out[start : start + block] = nearest(part / scale, book) * scale
    return out


def rounded_columns(v: np.ndarray, book: np.ndarray = LINEAR_2) -> np.ndarray:
    """Return a matrix rounded down its columns."""
    return rounded(v.T.flatten(), book).reshape(v.T.shape).T


def rounded_off_diagonal(a: np.ndarray, book: np.ndarray = LINEAR_2) -> np.ndarray:
    """Return a matrix whose diagonal is kept and whose other entries are rounded."""
    d = np.diag(np.diag(a))
    return rounded((a - d).flatten(), book).reshape(a.shape) + d


def repaired(v: np.ndarray, steps: int) -> np.ndarray:
    """Return ``v`` after steps of Bjorck's iteration."""
    for _ in range(steps):
        v = 1.5 * v - 0.5 * v @ v.T @ v
    return v


class Base:
    """AdamW or momentum on directions that somebody else made."""

    def __init__(self, w, base, lr, weight_decay, b1=0.9, b2=0.999, eps=1e-8, momentum=0.9, nesterov=False):
        self.w, self.base, self.lr, self.wd = w, base, lr, weight_decay
        self.b1, self.b2, self.eps, self.momentum, self.nesterov = b1, b2, eps, momentum, nesterov
        self.m, self.v, self.t = np.zeros_like(w), np.zeros_like(w), 0

    def step(self, u):
        self.t += 1
        self.w = (1 - self.lr * self.wd) * self.w
        if self.base == "sgdm":
            self.m = self.momentum * self.m + u
            self.w = self.w - self.lr * (u + self.momentum * self.m if self.nesterov else self.m)
            return
        self.m = self.b1 * self.m + (1 - self.b1) * u
        self.v = self.b2 * self.v + (1 - self.b2) * u**2
        root = np.sqrt(self.v / (1 - self.b2**self.t)) + self.eps
        self.w = self.w - self.lr * self.m / (1 - self.b1**self.t) / root


def as_matrix(g: np.ndarray) -> np.ndarray | None:
    """Return a gradient as a matrix, without axes of length one; ``None`` for vectors."""
    dims = [n for n in g.shape if n != 1]
    return None if len(dims) < 2 else g.reshape(dims[0], -1)
