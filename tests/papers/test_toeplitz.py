"""Toeplitz operators, circulant and tau preconditioners against dense algebra, and their headline."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

import precond
from precond.core import BadInputError, IncompatibleError
from precond.operators import FunctionOperator, ToeplitzOperator
from precond.preconditioners.circulant import Circulant
from precond.preconditioners.tau import Tau
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(9)


def vectors(n, kind):
    c, r = rng.standard_normal((2, n))
    if kind is np.complex128:
        c, r = c + 1j * rng.standard_normal(n), r + 1j * rng.standard_normal(n)
    c[0] = r[0] = 4 * n
    return c.astype(kind), r.astype(kind)


def symbol_coefficients(p, alpha, n):
    """Return the coefficients of the symbol of B-spline collocation of a Riesz derivative (arXiv 2106.14834)."""
    theta = (np.arange(4 * n) + 0.5) * np.pi / (2 * n)
    u = theta / 2 + np.arange(-200, 201)[:, None] * np.pi
    f = (np.abs(2 * u) ** alpha * (np.sin(u) / u) ** (p + 1)).sum(axis=0)
    return np.array([(f * np.cos(k * theta)).mean() for k in range(n)])


@pytest.mark.parametrize("n", [1, 2, 5, 16, 33])
@pytest.mark.parametrize("kind", [np.float64, np.complex128, np.float32])
def test_products_norm_and_diagonal_are_those_of_the_matrix(n, kind):
    c, r = vectors(n, kind)
    dense, operator = scipy.linalg.toeplitz(c, r), ToeplitzOperator(c, r)
    x = rng.standard_normal((3, n)).astype(kind)
    loose = {"rtol": 1e-4, "atol": 1e-3} if kind is np.float32 else {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(operator.matvec(torch.from_numpy(x)), x @ dense.T, **loose)
    np.testing.assert_allclose(operator.rmatvec(torch.from_numpy(x)), x @ dense.conj(), **loose)
    np.testing.assert_allclose(
        operator.double().matvec(torch.from_numpy(x).to(operator.double().dtype)), x @ dense.T, **loose
    )
    np.testing.assert_allclose(operator.diagonal(), np.diag(dense))
    assert operator.frobenius_norm() == pytest.approx(np.linalg.norm(dense), rel=1e-6)


def test_symmetry_is_found():
    assert ToeplitzOperator([2.0, -1, 0]).traits.symmetric
    assert ToeplitzOperator(np.array([2.0, 1j]), np.array([2.0, -1j])).traits.symmetric
    assert ToeplitzOperator([2.0, 1], [2.0, 3]).traits.symmetric is False
    assert ToeplitzOperator([-2.0, 1]).traits.definite is False


@pytest.mark.parametrize(
    ("column", "row", "message"),
    [([], None, "length"), ([[1.0]], None, "vectors"), ([1.0, 2], [1.0], "length"), ([1.0, 2], [3.0, 2], "begin"),
     ([1.0, np.nan], None, "finite")],
)  # fmt: skip
def test_refuses_what_is_no_toeplitz_matrix(column, row, message):
    with pytest.raises(BadInputError, match=message):
        ToeplitzOperator(column, row)


@pytest.mark.parametrize("n", [2, 7, 12])
@pytest.mark.parametrize("kind", [np.float64, np.complex128])
@pytest.mark.parametrize("which", ["chan", "strang"])
def test_circulants_are_those_of_the_papers(n, kind, which):
    c, r = vectors(n, kind)
    t = {k: c[k] for k in range(n)} | {-k: r[k] for k in range(1, n)}
    first = np.zeros(n, complex)
    for k in range(n):
        if which == "chan":
            first[k] = ((n - k) * t[k] + (k * t[k - n] if k else 0)) / n
        elif 2 * k == n:
            first[k] = (t[k] + t[k - n]) / 2
        else:
            first[k] = t[k] if 2 * k < n else t[k - n]
    expected = np.linalg.inv(scipy.linalg.circulant(first))
    for form in (ToeplitzOperator(c, r), scipy.linalg.toeplitz(c, r)):
        state, health = ready(Circulant(which), form)
        assert health.detail == ""
        v = rng.standard_normal((2, n)).astype(kind)
        np.testing.assert_allclose(Circulant(which).apply(state, torch.from_numpy(v)), v @ expected.T, atol=1e-12)
        adjoint = Circulant(which).apply_adjoint(state, torch.from_numpy(v))
        np.testing.assert_allclose(adjoint, v @ expected.conj(), atol=1e-12)


def test_chans_circulant_is_the_nearest_to_any_matrix():
    a = rng.standard_normal((6, 6)) + 6 * np.eye(6)
    state, _ = ready(Circulant(), a)
    found = np.linalg.inv(Circulant().apply(state, torch.eye(6, dtype=torch.float64)).numpy().T)
    for k in range(6):  # the gap is orthogonal to every circulant
        assert np.sum((a - found) * scipy.linalg.circulant(np.eye(6)[k])) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 6, 11])
def test_tau_samples_the_symbol(n):
    c = rng.standard_normal(n)
    j = np.arange(1, n + 1)
    s = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(j, j) / (n + 1))
    values = [abs(c[0] + 2 * sum(c[k] * np.cos(np.pi * i * k / (n + 1)) for k in range(1, n))) for i in j]
    state, _ = ready(Tau(), ToeplitzOperator(c))
    v = rng.standard_normal((2, n))
    expected = v @ (s @ np.diag(1 / np.array(values)) @ s)
    np.testing.assert_allclose(Tau().apply(state, torch.from_numpy(v)), expected, rtol=1e-9, atol=1e-12)


def test_a_vanishing_eigenvalue_is_replaced_and_reported():
    result = precond.solve(
        ToeplitzOperator([2.0, -1] + [0.0] * 30), np.ones(32), method="cg", preconditioner="circulant"
    )
    assert result.converged
    strang = precond.solve(
        ToeplitzOperator([2.0, -1] + [0.0] * 30), np.ones(32), method="cg", preconditioner=Circulant("strang")
    )
    assert strang.converged
    assert "1 vanishing" in strang.method


def test_products_of_another_matrix_are_refused():
    d = torch.arange(1.0, 9.0, dtype=torch.float64)
    other = FunctionOperator(lambda v: v * d, (8, 8), symmetric=True)
    with pytest.raises(IncompatibleError, match="Toeplitz"):
        precond.solve(other, np.ones(8), method="cg", preconditioner="tau")
    with pytest.raises(IncompatibleError, match="real symmetric"):
        precond.solve(ToeplitzOperator([2.0, 1], [2.0, 0]), np.ones(2), method="gmres", preconditioner="tau")
    with pytest.raises(BadInputError, match="strang"):
        Circulant("square")


@pytest.mark.parametrize(("alpha", "p"), [(1.5, 3), (1.2, 7)])
def test_iterations_do_not_grow_with_the_size(alpha, p):
    """B-spline collocation of Riesz derivatives (Mazza, Donatelli, Manni, Speleers, arXiv 2106.14834)."""
    for n in (128, 512):
        a = ToeplitzOperator(symbol_coefficients(p, alpha, n))
        count = {
            name: precond.solve(a, np.ones(n), method="cg", preconditioner=name).iterations
            for name in ("identity", "tau", "circulant")
        }
        assert count["tau"] <= 8
        assert count["tau"] < count["circulant"] < 0.5 * count["identity"]
