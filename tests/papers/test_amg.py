"""Algebraic multigrid against dense loops, its reuse in a sequence, and its headline."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, Evidence, IncompatibleError, MissingExtraError
from precond.operators import as_operator
from precond.preconditioners.amg import AMG
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(11)


def groups(a, theta):
    """Return the aggregates of a dense matrix by the paper's three passes, one list of unknowns each."""
    n = len(a)
    near = [
        [j for j in range(n) if j != i and abs(a[i, j]) > theta * np.sqrt(abs(a[i, i] * a[j, j]))] for i in range(n)
    ]
    left, found = set(range(n)), []
    for i in range(n):
        if near[i] and left.issuperset([i, *near[i]]):
            found.append([i, *near[i]])
            left -= set(found[-1])
    first = [set(g) for g in found]
    for i in sorted(left):
        for j in sorted(near[i]):
            home = [k for k, g in enumerate(first) if j in g]
            if home:
                found[home[0]].append(i)
                left.discard(i)
                break
    for i in range(n):
        others = [j for j in near[i] if j in left]
        if i in left and others:
            found.append([i, *others])
            left -= set(found[-1])
    return found


def prolongation(a, x, theta):
    """Return the smoothed prolongation of the paper, and the coarse vector."""
    n = len(a)
    found = groups(a, theta)
    t, norms = np.zeros((n, len(found))), np.zeros(len(found))
    for k, g in enumerate(found):
        norms[k] = np.linalg.norm(x[g])
        t[g, k] = x[g] / norms[k]
    filtered = a.copy()
    for i in range(n):
        for j in range(n):
            if i != j and a[i, j] != 0 and abs(a[i, j]) <= theta * np.sqrt(abs(a[i, i] * a[j, j])):
                filtered[i, i] += a[i, j]
                filtered[i, j] = 0
    scaled = filtered / np.diag(filtered)[:, None]
    rho = np.abs(np.linalg.eigvals(scaled)).max()
    return t, scaled, rho, norms


def v_cycle(matrices, prolongations, b):
    """Return one V(1, 1) cycle with Gauss-Seidel by dense algebra."""
    if not prolongations:
        return np.linalg.pinv(matrices[0], rcond=1e-12) @ b
    a, p = matrices[0], prolongations[0]
    x = np.linalg.solve(np.tril(a), b)
    x = x + p @ v_cycle(matrices[1:], prolongations[1:], p.T @ (b - a @ x))
    return x + np.linalg.solve(np.triu(a), b - a @ x)


def mesh(n=60):
    """Return a symmetric matrix of a random sparse graph with weights over two decades, definite."""
    w = np.triu((rng.random((n, n)) < 0.08) * 10 ** rng.uniform(-2, 0, (n, n)), 1)
    w = w + w.T
    return np.diag(w.sum(axis=1) + 0.01 * rng.random(n) + 1e-3) - w


@pytest.mark.parametrize("theta", [0.0, 0.08, 0.25])
def test_prolongations_are_those_of_the_paper(theta):
    a = mesh()
    state, health = ready(AMG(strength=theta, coarsest=5), a)
    assert health.detail == ""
    first = state.prolongations[0].toarray()
    x = np.ones(len(a))
    for _ in range(2):  # Gauss-Seidel on A x = 0
        x = np.linalg.solve(np.tril(a), -np.triu(a, 1) @ x)
    t, scaled, rho, _ = prolongation(a, x / np.abs(x).max(), theta)
    assert first.shape == t.shape
    moved = t - first  # = (4 / 3) / rho D^-1 A_F T with an estimate of rho
    step = (moved * (scaled @ t)).sum() / ((scaled @ t) ** 2).sum()
    np.testing.assert_allclose(moved, step * (scaled @ t), atol=1e-12)
    assert 4 / 3 / rho <= step * (1 + 1e-12)
    assert step <= 1.15 * 4 / 3 / rho


@pytest.mark.parametrize("coarsening", ["smoothed-aggregation", "ruge-stuben"])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_the_cycle_equals_dense_algebra(coarsening, kind):
    a = mesh().astype(kind)
    part = AMG(coarsening, coarsest=4)
    state, _ = ready(part, a)
    prolongations = [p.toarray() for p in state.prolongations]
    assert prolongations
    matrices = [a.astype(float)]
    for p in prolongations:
        matrices.append(p.T @ matrices[-1] @ p)
    v = rng.standard_normal((2, len(a))).astype(kind)
    applied = part.apply(state, torch.from_numpy(v)).numpy()
    assert applied.dtype == kind
    expected = np.stack([v_cycle(matrices, prolongations, row) for row in v])
    np.testing.assert_allclose(applied, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())


def test_hermitian_matrices_have_hermitian_cycles():
    a = mesh(40).astype(complex)
    phase = np.exp(1j * rng.uniform(0, 6, 40))
    a = phase[:, None] * a * phase.conj()
    part = AMG(coarsest=3)
    state, _ = ready(part, a, batch=1)
    p = part.apply(state, torch.eye(40, dtype=torch.complex128)).numpy().T
    np.testing.assert_allclose(p, p.conj().T, atol=1e-10 * np.abs(p).max())
    assert np.linalg.eigvalsh(p).min() > 0


def test_a_matrix_nearby_keeps_the_prolongations_and_gets_new_products():
    part, a = AMG(), poisson(30)
    state, _ = ready(part, a)
    kept, levels = state.prolongations, state.levels
    part.observe(state, Evidence(operator=as_operator(1.1 * a)))
    part.refresh(state)
    assert state.prolongations is kept
    np.testing.assert_allclose(1.1 * state.levels.coarsest, levels.coarsest, rtol=1e-6)
    part.observe(state, Evidence(operator=as_operator(5 * a)))
    part.refresh(state)
    assert state.prolongations is not kept


def test_unknowns_without_neighbours_are_relaxed_alone():
    a = scipy.sparse.block_diag([poisson(20), 3 * scipy.sparse.eye_array(50)]).tocsr()
    state, _ = ready(AMG(), a)
    v = np.zeros((1, 450))
    v[:, 400:] = 1
    np.testing.assert_allclose(AMG().apply(state, torch.from_numpy(v))[0, 400:], 1 / 3, rtol=1e-6)


def test_where_nothing_is_strong_it_relaxes():
    a = scipy.sparse.diags_array([1e-3, 1.0, 1e-3], offsets=[-1, 0, 1], shape=(3000, 3000)).tocsr()
    result = precond.solve(a, np.ones(3000), method="cg", preconditioner="amg")
    assert result.converged
    assert result.iterations < 5


def test_refuses_what_it_cannot_do(monkeypatch):
    with pytest.raises(BadInputError, match="ruge-stuben"):
        AMG("geometric")
    with pytest.raises(BadInputError, match="strength"):
        AMG(strength=1.0)
    with pytest.raises(IncompatibleError, match="symmetric"):
        precond.solve(np.triu(np.ones((3, 3))), np.ones(3), method="gmres", preconditioner="amg")
    monkeypatch.setitem(sys.modules, "pyamg", None)
    with pytest.raises(MissingExtraError, match=r"precond\[amg\]"):
        precond.solve(poisson(5), np.ones(25), method="cg", preconditioner="ruge-stuben")
    assert precond.solve(poisson(5), np.ones(25), method="cg", preconditioner="amg").converged


def test_iterations_hardly_grow_with_the_size():
    """The paper's headline, on the five-point Laplacian from 400 to 14400 unknowns, also badly scaled."""
    for name in ("amg", "ruge-stuben"):
        counts = []
        for m in (20, 120):
            b = rng.standard_normal(m * m)
            counts.append(precond.solve(poisson(m), b, method="cg", preconditioner=name).iterations)
        assert counts[1] <= counts[0] + 4
        assert counts[1] <= 12
    s = scipy.sparse.diags_array(10 ** rng.uniform(-3, 3, 3600))
    assert precond.solve(s @ poisson(60) @ s, rng.standard_normal(3600), method="cg", preconditioner="amg").converged


def test_classical_coarsening_refuses_complex_matrices():
    pytest.importorskip("pyamg")
    a = scipy.sparse.csr_array(poisson(12)).astype(complex)
    with pytest.raises(IncompatibleError, match="preconditioner='amg'"):
        precond.solve(a, np.ones(144), method="cg", preconditioner="ruge-stuben")
