"""The steps of MINRES: compiled loops and torch's operations do the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.math.krylov.minimum_residual import advance, lanczos

rng = np.random.default_rng(5)


def vectors(kind, count):
    x = rng.standard_normal((count, 3, 9)) + (1j * rng.standard_normal((count, 3, 9)) if kind is complex else 0)
    return list(x)


@pytest.mark.parametrize("kind", [float, complex])
def test_lanczos_is_its_formula_both_ways(kind):
    z, q, v, v_old = vectors(kind, 4)
    gamma, gamma_old = np.array([2.0, 0.0, 0.5]), np.array([1.0, 3.0, 0.0])
    f, back = np.array([0.5, 0.0, 2.0]), np.array([2.0, 0.0, 0.0])
    delta = (z.conj() * q).sum(axis=1).real * f**2
    expected = f[:, None] * q - (delta * f)[:, None] * v - back[:, None] * v_old
    for turned in (np.array, torch.tensor):
        out = turned(v_old)
        found = lanczos(turned(z), turned(q), turned(v), out, gamma, gamma_old)
        np.testing.assert_allclose(found, delta, rtol=1e-12)
        np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [float, complex])
def test_advance_is_its_formula_both_ways(kind):
    x, r, w_old, w, z, v = vectors(kind, 6)
    factors = rng.standard_normal((6, 3))
    one, two, three, step, keep, turn = factors[:, :, None]
    direction = one * z - two * w - three * w_old
    for turned in (np.array, torch.tensor):
        a, b, c = turned(x), turned(r), turned(w_old)
        norms = advance(a, b, c, turned(w), turned(z), turned(v), factors)
        np.testing.assert_allclose(np.asarray(c), direction, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(np.asarray(a), x + step * direction, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(np.asarray(b), keep * r + turn * v, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(norms, np.linalg.norm(keep * r + turn * v, axis=1), rtol=1e-12)
