"""L-BFGS started from a diagonal, against its formulas in plain loops."""

import math

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Evidence
from precond.core import named_tensors as tensors
from precond.math.dense import diagonals, secants
from precond.preconditioners.diagonal_lbfgs import DiagonalLBFGS
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes.second_order import lbfgs, lbfgs_diagonal

D = torch.float64


def reference(pairs, memory, decay, n):
    """The inverse Hessian of the last pairs as a matrix, from the diagonal where it has explained them better."""
    if not pairs:
        return np.eye(n), False
    favour, known = 0.0, 0.0
    for k in range(2, len(pairs)):
        s, y = pairs[k]
        d = ratio(pairs[:k], decay)
        better = math.log((s @ s) * (y @ y) / ((s @ (s / d)) * (y @ (d * y))))
        favour, known = 0.9 * favour + 0.1 * better, 0.9 * known + 0.1
    s, y = pairs[-1]
    d = np.ones(n)
    if taken := known > 0 and favour > known:
        d = ratio(pairs, decay)
    h = np.diag(d * (s @ y) / (y @ (d * y)))
    for s, y in pairs[-memory:]:
        v = np.eye(n) - np.outer(y, s) / (s @ y)
        h = v.T @ h @ v + np.outer(s, s) / (s @ y)
    return h, taken


def ratio(pairs, decay):
    ages = range(len(pairs) - 1, -1, -1)
    above = sum(decay**age * s**2 / (s @ y) for age, (s, y) in zip(ages, pairs, strict=True))
    below = sum(decay**age * y**2 / (s @ y) for age, (s, y) in zip(ages, pairs, strict=True))
    return np.sqrt(above / below)


def chain(hessians, count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        s = np.stack([rng.normal(size=len(h)) / np.sqrt(h.diagonal()) for h in hessians])
        yield s, np.stack([h @ row for h, row in zip(hessians, s, strict=True)])


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("memory", [1, 4, 20])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_equals_the_formulas(small, memory, count, monkeypatch):
    monkeypatch.setattr(secants, "small", lambda s: small)
    monkeypatch.setattr(diagonals, "small", lambda s: small)
    n = 6
    rng = np.random.default_rng(1)
    root = rng.normal(size=(n, n))
    scales = np.diag(10.0 ** (np.arange(n) / 2))
    hessians = [scales @ (np.eye(n) + 0.05 * (root + root.T)) @ scales, root @ root.T + np.eye(n)]
    part = DiagonalLBFGS(LBFGS(memory), 0.8)
    state = part.init(torch.zeros(2, n, dtype=D))
    seen = [[], []]
    for s, y in chain(hessians, count, 2):
        part.observe(state, Evidence(secant=(torch.from_numpy(s), torch.from_numpy(y))))
        for member in range(2):
            seen[member].append((s[member], y[member]))
    v = torch.ones(2, n, dtype=D)
    found = part.apply(state, v)
    taken = []
    for member in range(2):
        h, diagonal = reference(seen[member], memory, 0.8, n)
        np.testing.assert_allclose(found[member].numpy(), h @ v[member].numpy(), rtol=1e-9)
        shifted = part.apply(state, v, shift=0.3)[member].numpy()
        np.testing.assert_allclose(shifted, np.linalg.solve(np.linalg.inv(h) + 0.3 * np.eye(n), v[member]), rtol=1e-6)
        taken.append(diagonal)
    assert taken == [count > 2, False]  # scales explain the pairs of the first member, coupling those of the second


@pytest.mark.parametrize("small", [True, False])
def test_members_skip_pairs_alone(small, monkeypatch):
    monkeypatch.setattr(secants, "small", lambda s: small)
    monkeypatch.setattr(diagonals, "small", lambda s: small)
    part, h = DiagonalLBFGS(LBFGS(3)), np.diag([1.0, 1e4, 1e8])
    both, alone = part.init(torch.zeros(2, 3, dtype=D)), part.init(torch.zeros(1, 3, dtype=D))
    for k, (s, y) in enumerate(chain([h, h], 9, 3)):
        s, y = torch.from_numpy(s), torch.from_numpy(y)
        if k % 3 == 1:
            y[1] = -s[1]
        part.observe(both, Evidence(secant=(s, y)))
        if k % 3 != 1:
            part.observe(alone, Evidence(secant=(s[1:], y[1:])))
    for (name, a), (_, b) in zip(tensors(both), tensors(alone), strict=True):
        torch.testing.assert_close(a[1:], b, msg=name)


def test_pairs_whose_squares_leave_the_range_of_numbers():
    part = DiagonalLBFGS(LBFGS(2))
    state = part.init(torch.zeros(1, 4, dtype=D))
    for k in range(6):
        s = torch.arange(1.0, 5.0, dtype=D)[None].roll(k, 1)
        part.observe(state, Evidence(secant=(s, 1e200 * s)))
    torch.testing.assert_close(part.apply(state, 1e200 * s), s)


def test_wrong_decays_are_refused():
    with pytest.raises(BadInputError, match="decay"):
        lbfgs_diagonal(decay=1.5)


def scaled(k):
    """Rosenbrock's chain whose variables are measured in units from 10^-k to 10^k."""
    units = 10.0 ** torch.linspace(-k, k, 10, dtype=D)

    def fun(x):
        y = units * x
        return (100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum()

    return fun, torch.tensor([-1.2, 1.0] * 5, dtype=D) / units


def test_headline_scales_of_variables_cost_little():
    (plain, x0), (fun, far) = scaled(0), scaled(3)
    few = precond.minimize(plain, x0, method=lbfgs_diagonal(memory=30))
    found = precond.minimize(fun, far, method=lbfgs_diagonal(memory=30))
    rival = precond.minimize(fun, far, method=lbfgs(memory=30))
    assert few.converged
    assert found.converged
    assert found.work.gradients < 1.5 * few.work.gradients
    assert rival.work.gradients > 4 * found.work.gradients


def test_coupled_variables_keep_the_identity():
    """One large eigenvalue with a vector that has all entries, which the root of the diagonal would misread."""
    i = torch.arange(1, 51, dtype=D) / 2

    def fun(x):
        s = i @ x
        return x @ x + s**2 + s**4

    counts = [
        precond.minimize(fun, torch.full((50,), 0.5, dtype=D), method=method(memory=30)).work.gradients
        for method in (lbfgs_diagonal, lbfgs)
    ]
    assert counts[0] <= 1.1 * counts[1]


def test_auto_takes_it_where_there_are_gradients_alone():
    units = 10.0 ** np.linspace(0, 6, 300)
    result = precond.minimize(
        lambda x: float(units @ (x - 1) ** 2 + ((x[1:] - x[:-1]) ** 2).sum()), np.zeros(300),
        jac=lambda x: 2 * units * (x - 1) + 2 * (np.append(0, np.diff(x)) - np.append(np.diff(x), 0)),
    )  # fmt: skip
    assert result.converged
    assert result.method.startswith("lbfgs-diagonal")
    assert result.work.gradients < 200
