"""Sparse regressions for tests, and their objectives in plain NumPy."""

from __future__ import annotations

import numpy as np


def regression(m: int = 60, n: int = 100, rho: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return standardised, correlated columns, a response, and the coefficients behind it."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(m, n))
    for j in range(1, n):
        a[:, j] = rho * a[:, j - 1] + np.sqrt(1 - rho**2) * a[:, j]
    a = (a - a.mean(0)) / a.std(0)
    w = np.zeros(n)
    w[rng.choice(n, 6, replace=False)] = rng.choice([-2.0, 2.0], 6)
    signal = a @ w
    return a, signal + signal.std() / 5 * rng.normal(size=m), w


def scad(t: np.ndarray, lam: float, a: float = 3.7) -> float:
    """Return the penalty, piece by piece."""
    total = 0.0
    for value in np.abs(t):
        if value <= lam:
            total += lam * value
        elif value < a * lam:
            total += (2 * a * lam * value - value**2 - lam**2) / (2 * (a - 1))
        else:
            total += lam**2 * (a + 1) / 2
    return total


def scad_rest_slope(t: np.ndarray, lam: float, a: float = 3.7) -> np.ndarray:
    """Return the derivative of SCAD less ``lam |t|``."""
    out = np.zeros_like(t)
    for j, value in enumerate(t):
        if abs(value) >= a * lam:
            out[j] = -lam * np.sign(value)
        elif abs(value) > lam:
            out[j] = (lam - abs(value)) * np.sign(value) / (a - 1)
    return out


def soft(x: np.ndarray, threshold: float) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)
