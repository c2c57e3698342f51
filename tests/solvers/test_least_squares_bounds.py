"""Least squares within bounds, against the optimality conditions computed here and SciPy's function."""

import numpy as np
import pytest
import scipy.optimize as theirs
import torch

import precond
import precond.scipy as ours
from precond.core import BadInputError, IncompatibleError
from precond.solvers.squares.box import Box, BoxedSquares
from precond.solvers.squares.difference_jacobians import DifferenceJacobian

T = np.linspace(0, 5, 60)
RNG = np.random.default_rng(7)
Y = 3 * np.exp(-0.7 * T) + 2 * np.exp(-0.15 * T) + 0.01 * RNG.standard_normal(60)
GROWTH = 10 / (1 + np.exp(-2 * (T - 2))) + 0.1 * RNG.standard_normal(60)
SINE = 2 * np.exp(-0.3 * T) * np.sin(3 * T + 0.5) + 0.05 * RNG.standard_normal(60)
inf = np.inf


def two(p):
    return p[0] * np.exp(-p[1] * T) + p[2] * np.exp(-p[3] * T) - Y


def growth(p):
    return p[0] / (1 + np.exp(-p[1] * (T - p[2]))) - GROWTH


def sine(p):
    return p[0] * np.exp(-p[1] * T) * np.sin(p[2] * T + p[3]) - SINE


def scales(p):
    return p[0] * 1e8 * np.exp(-p[1] * 1e-8 * T) - Y


CASES = {
    "two held": (two, [1, 0.4, 1, 0.1], ([0, 0, 0, 0], [2, 0.5, 10, 10])),
    "none held": (two, [1, 0.5, 1, 0.1], (0, [10, 5, 10, 5])),
    "large residual": (growth, [5, 1, 1], (0, [8, 5, 5])),
    "sine": (sine, [1, 0.1, 2.8, 0], ([0, 0, 0, -4], [10, 0.2, 10, 4])),
    "start in a corner": (lambda p: p[0] * np.exp(-p[1] * T) - Y, [0, 0], (0, inf)),
    "very different scales": (scales, [1e-8, 1e8], (0, [2e-8, 1e9])),
    "all held": (lambda p: np.array([p[0] - 3, p[1] + 3]), [0.5, 0.5], (0, 1)),
}


def optimality(fun, start, x, lower, upper):
    """The largest cosine between the residual and a column, of variables that may move where descent takes them."""
    steps = 1e-6 * np.maximum(np.abs(x), np.abs(start))
    columns = np.stack([(fun(x + h) - fun(x - h)) / (2 * h[i]) for i, h in enumerate(np.diag(steps))], axis=1)
    r = fun(x)
    cosines = columns.T @ r / np.linalg.norm(columns, axis=0) / np.linalg.norm(r)
    return np.abs(cosines[~(((x <= lower) & (cosines > 0)) | ((x >= upper) & (cosines < 0)))]).max(initial=0.0)


@pytest.mark.parametrize("case", CASES)
def test_fits_within_bounds(case):
    fun, start, bounds = CASES[case]
    lower, upper = (np.broadcast_to(np.asarray(side, dtype=float), (len(start),)) for side in bounds)
    points = []

    def seen(p):
        points.append(p.copy())
        return fun(p)

    found = ours.least_squares(seen, start, bounds=bounds)
    assert found.success, found.message
    assert all(np.all((lower <= p) & (p <= upper)) for p in points)
    assert optimality(fun, start, found.x, lower, upper) <= 1e-7
    best = theirs.least_squares(fun, start, bounds=bounds, xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac")
    assert found.cost <= best.cost * (1 + 1e-9)
    assert found.nfev <= (22 if case == "two held" else 50)
    held = (found.x == lower) | (found.x == upper)
    np.testing.assert_array_equal(held, found.active_mask != 0)


def test_bounds_in_every_form():
    """Torch functions of vectors and dicts, NumPy functions with a Jacobian, and the methods by name."""
    y = torch.from_numpy(Y)
    t = torch.from_numpy(T)

    def residual(p):
        return p[0] * torch.exp(-p[1] * t) + p[2] * torch.exp(-p[3] * t) - y

    fun, start, bounds = CASES["two held"]
    wanted = ours.least_squares(fun, start, bounds=bounds).x
    first = torch.tensor(start, dtype=torch.float64)
    for method in ("auto", "levenberg-marquardt", "trust-region-lm", "geodesic-lm"):
        found = precond.least_squares(residual, first, bounds=theirs.Bounds(*bounds), method=method)
        assert found.converged, (method, found.message)
        np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-6)
    by_name = precond.least_squares(
        lambda p: residual(torch.stack([p["a"], p["b"], p["c"], p["d"]])),
        {name: torch.tensor(value, dtype=torch.float64) for name, value in zip("abcd", start, strict=True)},
        bounds=bounds,
    )
    np.testing.assert_allclose([float(by_name.x[name]) for name in "abcd"], wanted, rtol=1e-6)
    given = precond.least_squares(
        fun, np.array(start), bounds=bounds,
        jac=lambda p: np.stack([
            np.exp(-p[1] * T), -p[0] * T * np.exp(-p[1] * T), np.exp(-p[3] * T), -p[2] * T * np.exp(-p[3] * T)
        ], axis=1),
    )  # fmt: skip
    assert given.converged
    np.testing.assert_allclose(given.x, wanted, rtol=1e-6)


def test_points_outside_are_evaluated_at_the_nearest_within():
    points = []

    def residual(x):
        points.append(x.clone())
        return x.square()

    x = torch.tensor([1.0, 2.0, 3.0]).double()
    box = Box(torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([1.0, 9.0, 3.0]).double())
    differences = DifferenceJacobian(exact=True, bounds=(box.lower, box.upper))
    objective = BoxedSquares(box, residual, differences)
    assert float(objective.value(x[None] + 100)) == (1 + 9**4 + 3**4) / 2
    assert torch.equal(objective.point(x[None] - torch.tensor([0, 9, 0])).x, x[None])
    assert all(torch.equal(p, box.clip(p)) for p in points)
    found = differences.at(residual, x, x.square())
    torch.testing.assert_close(found, torch.diag(torch.tensor([0.0, 4.0, 6.0]).double()), rtol=1e-8, atol=1e-8)


def test_fixed_variables_and_single_precision():
    fixed = precond.least_squares(two, [1, 0.5, 1, 0.1], bounds=([0, 0.5, 0, 0], [10, 0.5, 10, 10]))
    assert fixed.converged
    assert fixed.x[1] == 0.5
    single = precond.least_squares(
        lambda x: torch.stack([x[0] - 3, 10 * (x[1] - x[0] ** 2)]), torch.zeros(2), bounds=(-1, 1.5), tol=1e-4
    )
    assert single.converged
    assert single.x.dtype is torch.float32
    np.testing.assert_allclose(single.x.numpy(), [np.roots([200, 0, -299, -3]).real.max(), 1.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("bounds", "word"),
    [(([0, 0], [1, 1]), "outside"), ((3, 1), "lower bound"), (([0] * 3, [1] * 3), "pair"), ((0, 1, 2), "pair")],
)
def test_bad_bounds(bounds, word):
    with pytest.raises(BadInputError, match=word):
        precond.least_squares(lambda x: x - 1, np.array([2.0, 2.0]), bounds=bounds)


def test_large_problems_are_told_what_takes_their_bounds():
    with pytest.raises(IncompatibleError, match=r"precond\.minimize"):
        precond.least_squares(lambda x: x - 1, torch.zeros(4000).double(), bounds=(-1, 0.5))


def test_evaluations_are_counted_as_scipy_counts_them():
    """Differences are left out of ``nfev``, but for ``"lm"``."""
    calls = []

    def seen(p):
        calls.append(1)
        return two(p)

    found = ours.least_squares(seen, [1, 1, 1, 0.1])
    assert found.nfev <= 20
    assert 2 <= found.njev <= found.nfev
    assert len(calls) > 4 * found.njev
    calls.clear()
    assert ours.least_squares(seen, [1, 1, 1, 0.1], method="lm").nfev == len(calls)


def test_redundant_parameters_end_at_the_least_change():
    """Where ``J`` is singular all along, steps have no part in its null space, and the fit ends soon."""
    found = precond.least_squares(lambda p: p[0] * p[1] * np.exp(-p[2] * T) - Y, [1.0, 1.0, 0.3])
    assert found.converged
    assert " after " not in found.method
    assert found.x[0] == pytest.approx(found.x[1], rel=1e-9)
