"""GCRO-DR against the paper's algorithm with dense matrices in plain NumPy, and SKR's headline scaled down."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

from precond.core import BadInputError, Status
from precond.krylov import GCRODR, GMRES
from precond.math.sparse.ordering import nearest_neighbours
from precond.operators import as_operator
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(31)


def smallest(g, w, v, k):
    """Harmonic Ritz vectors of least value for A V = W G, as a real basis; a pair that k splits is left out."""
    values, vectors = np.linalg.eig(np.linalg.solve(g.conj().T @ w.conj().T @ v, g.conj().T @ g))
    order = np.argsort(np.abs(values))
    if np.iscomplexobj(g):
        return vectors[:, order[:k]]
    columns = []
    for i in order:
        if abs(values[i].imag) < 1e-9 * abs(values[i]):
            new = [vectors[:, i].real]
        elif values[i].imag > 0:
            new = [vectors[:, i].real, vectors[:, i].imag]
        else:
            continue
        if len(columns) + len(new) > k:
            break
        columns += new
    return np.stack(columns, axis=1)


def reference(a, b, u, m, k, cycles):
    """Return the residual after each cycle, and U: each cycle minimizes over span(U, Krylov space of (I - C C^H) A)."""
    x, norms = np.zeros_like(b), []
    if u is not None:
        q, r = np.linalg.qr(a @ u)
        c, u = q, u @ np.linalg.inv(r)
        x = x + u @ (c.conj().T @ b)
        norms.append(np.linalg.norm(b - a @ x))
    for _ in range(cycles):
        r = b - a @ x
        c = np.zeros((len(b), 0), b.dtype) if u is None else a @ u
        v, count = [r / np.linalg.norm(r)], m - c.shape[1]
        for _ in range(count):
            w = a @ v[-1]
            basis = np.column_stack([c, *v])
            for _ in range(2):
                w = w - basis @ (basis.conj().T @ w)
            v.append(w / np.linalg.norm(w))
        w = np.column_stack([c, *v])
        scaled = np.zeros((len(b), 0), b.dtype) if u is None else u / np.linalg.norm(u, axis=0)
        space = np.column_stack([scaled, *v[:-1]])
        g = w.conj().T @ a @ space
        x = x + space @ np.linalg.lstsq(a @ space, r, rcond=None)[0]
        norms.append(np.linalg.norm(b - a @ x))
        p = smallest(g, w, space, k)
        _, triangle = np.linalg.qr(g @ p)
        u = space @ p @ np.linalg.inv(triangle)
    return x, norms, u


@pytest.mark.parametrize("kind", [float, complex])
def test_follows_the_paper_over_cycles_and_into_the_next_system(kind):
    n, m, k = 60, 10, 4
    noise = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if kind is complex else 0)
    a = np.diag(np.linspace(0.3, 20, n)) + 0.1 * noise
    b = rng.standard_normal(n) + 0 * a[0]
    x, norms, u = reference(a, b, None, m, k, 3)
    iteration, memory = GCRODR(m, k), GCRODR(m, k).memory()
    first = m + 2 * (m - u.shape[1])
    running = iteration.recycle(memory, as_operator(a), torch.from_numpy(b)[None], torch.clone, torch.zeros(1, n).to(
        torch.from_numpy(b).dtype))  # fmt: skip
    seen = list(itertools.islice(running, first + 1))
    np.testing.assert_allclose(seen[-1].solution()[0].numpy(), x, rtol=1e-7, atol=1e-9)
    assert float(seen[m].residual) == pytest.approx(norms[0], rel=1e-8)
    assert float(seen[-1].residual) == pytest.approx(norms[-1], rel=1e-8)

    nearby, b = a + 0.01 * rng.standard_normal((n, n)), rng.standard_normal(n) + 0 * a[0]
    x, norms, _ = reference(nearby, b, u, m, k, 1)
    running = iteration.recycle(memory, as_operator(nearby), torch.from_numpy(b)[None], torch.clone, torch.zeros(
        1, n).to(torch.from_numpy(b).dtype))  # fmt: skip
    seen = list(itertools.islice(running, 2 + m - u.shape[1]))
    assert float(seen[1].residual) == pytest.approx(norms[0], rel=1e-6)
    assert float(seen[-1].residual) == pytest.approx(norms[1], rel=1e-6)
    np.testing.assert_allclose(seen[-1].solution()[0].numpy(), x, rtol=1e-5, atol=1e-7)


def test_a_preconditioner_from_the_right_leaves_the_true_residual_minimal():
    n = 30
    a = rng.standard_normal((n, n)) + 8 * np.eye(n)
    p, b = np.linalg.inv(a + rng.standard_normal((n, n))), rng.standard_normal(n)
    for (x, progress), (y, _) in zip(
        steps(GCRODR(8, 0), a, b, p, 8), steps(GMRES(8), a, b, p, 8), strict=True
    ):  # the first cycle is that of GMRES
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-7)
    x, progress = steps(GCRODR(8, 3), a, b, p, 22)[-1]
    assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-4, abs=1e-12)


def darcy(m, coefficient):
    """Return -div(a grad u) on an m x m grid, with harmonic means of the coefficient between cells."""
    index = np.arange(m * m).reshape(m, m)
    padded = np.pad(coefficient, 1, mode="edge")
    rows, columns, values, diagonal = [], [], [], np.zeros((m, m))
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        beside = padded[1 + dx : m + 1 + dx, 1 + dy : m + 1 + dy]
        flux = 2 * coefficient * beside / (coefficient + beside)
        diagonal += flux
        inside = np.zeros((m, m), bool)
        inside[max(0, -dx) : m - max(0, dx), max(0, -dy) : m - max(0, dy)] = True
        rows.append(index[inside])
        columns.append(index[inside] + dx * m + dy)
        values.append(-flux[inside])
    entries = (np.concatenate([*values, diagonal.ravel()]), (np.concatenate([*rows, index.ravel()]),
               np.concatenate([*columns, index.ravel()])))  # fmt: skip
    return scipy.sparse.csr_array(entries, shape=(m * m, m * m))


def field(m, generator, tau=3.0):
    """Return a Gaussian random field with covariance (-laplace + tau^2)^-2, periodic."""
    k = 2 * np.pi * np.fft.fftfreq(m, 1 / m)
    spectrum = tau * m / (k[:, None] ** 2 + k**2 + tau**2)
    return np.fft.ifft2(spectrum * np.fft.fft2(generator.standard_normal((m, m)))).real


def test_sorting_and_recycling_halve_the_iterations_of_restarted_gmres():
    m, generator = 20, np.random.default_rng(0)
    coefficients = [np.exp(field(m, generator)) for _ in range(8)]
    order = nearest_neighbours(np.stack(coefficients))
    assert sorted(order) == list(range(8))
    assert order[0] == 0
    counts = {}
    for name, iteration in (("gmres", GMRES(40)), ("cold", GCRODR(40, 20)), ("recycled", GCRODR(40, 20))):
        memory = GCRODR(40, 20).memory()
        for index in order:
            operator, b = as_operator(darcy(m, coefficients[index])), torch.ones(1, m * m, dtype=torch.float64)
            zero = torch.zeros_like(b)
            running = (
                iteration.recycle(memory, operator, b, torch.clone, zero)
                if name == "recycled"
                else iteration.iterate(operator, b, torch.clone, zero)
            )
            counts[name] = counts.get(name, 0) - 1  # the start is no iteration
            for progress in running:
                counts[name] += 1
                if float(progress.residual) <= 1e-8 * float(b.norm()):
                    break
            assert float((b - operator.matvec(progress.solution())).norm()) <= 1.01e-8 * float(b.norm())
    assert counts["recycled"] <= counts["gmres"] / 2
    assert counts["recycled"] < counts["cold"]


def test_many_points_are_ordered_in_groups(monkeypatch):
    monkeypatch.setattr("precond.math.sparse.ordering._group", 5)
    points = rng.standard_normal((17, 2)) * [10, 1]
    order = nearest_neighbours(points)
    assert sorted(order) == list(range(17))
    assert np.abs(np.diff(points[order], axis=0)).sum() < np.abs(np.diff(points, axis=0)).sum()


def test_rows_have_spaces_of_their_own_and_one_that_is_done_stays():
    a = poisson(6).toarray()
    rows = np.stack([np.zeros(36), np.ones(36), rng.standard_normal(36)])
    seen = steps(GCRODR(10, 4), a, rows, None, 60)
    np.testing.assert_allclose(seen[-1][0], np.linalg.solve(a, rows.T).T, atol=1e-9)


def test_a_singular_inconsistent_system_breaks_down_at_the_least_residual():
    a, b = np.diag([1.0, 2.0, 0.0]), np.ones(3)
    x, progress = steps(GCRODR(), a, b, None, 20)[-1]
    assert progress.failure is Status.FAILED_BREAKDOWN
    assert np.linalg.norm(b - a @ x) == pytest.approx(1.0)


def test_a_cycle_needs_room_for_a_step():
    with pytest.raises(BadInputError, match="keep=20"):
        GCRODR(20, 20)
