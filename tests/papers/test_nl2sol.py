"""Learned curvature of residuals (Dennis, Gay & Welsch 1981) against a plain NumPy loop, and where it pays."""

import itertools

import numpy as np
import pytest
import torch

import precond
from precond.core import Work
from precond.preconditioners.dense_inverse import DenseInverse
from precond.recipes.least_squares import nl2sol
from precond.solvers.squares.jacobians import AutogradJacobian
from precond.solvers.squares.residuals import SquaresObjective
from precond.steps.structured_secant import StructuredSecant
from precond.steps.trust_region import TrustRegion

T = torch.arange(1, 21, dtype=torch.float64) / 5


def brown_dennis(x):
    return (x[0] + T * x[1] - T.exp()) ** 2 + (x[2] + x[3] * T.sin() - T.cos()) ** 2


START = torch.tensor([25.0, 5.0, -5.0, -1.0]).double()


def written_out(points):
    """S after each of these points, and which model foretold each step better, by the paper's formulas in NumPy."""
    s, matrices, better = np.zeros((4, 4)), [], []
    data = []
    for x in points:
        t = T.numpy()
        p, q = x[0] + t * x[1] - np.exp(t), x[2] + x[3] * np.sin(t) - np.cos(t)
        j = np.stack([2 * p, 2 * p * t, 2 * q, 2 * q * np.sin(t)], axis=1)
        data.append((x, p**2 + q**2, j))
    for (x, r, j), (x1, r1, j1) in itertools.pairwise(data):
        d, y = x1 - x, j1.T @ r1 - j.T @ r
        promised = -(j.T @ r) @ d - np.sum((j @ d) ** 2) / 2
        actual = r @ r / 2 - r1 @ r1 / 2
        better.append(abs(actual - promised + d @ s @ d / 2) < abs(actual - promised))
        sharp = (j1 - j).T @ r1
        tau = min(1.0, abs(d @ sharp) / abs(d @ s @ d)) if d @ s @ d else 1.0
        if d @ y > 0:
            z = sharp - tau * s @ d
            s = tau * s + (np.outer(z, y) + np.outer(y, z)) / (d @ y) - (d @ z) * np.outer(y, y) / (d @ y) ** 2
        matrices.append(s)
    return matrices, better


def test_curvature_is_the_papers_update_along_a_run():
    objective = SquaresObjective(brown_dennis, AutogradJacobian(brown_dennis), work=Work())
    rule = StructuredSecant(TrustRegion(1.0), DenseInverse("more"))
    state, point = rule.init(START[None]), objective.point(START[None])
    points, got, used = [START.numpy()], [], []
    for _ in range(12):
        point = rule.advance(state, point, None, objective).point
        points.append(point.x[0].numpy())
        got.append(state.curvature[0].numpy().copy())
        used.append(state.whole)
    want, better = written_out(points[:-1])
    for k, matrix in enumerate(want):
        np.testing.assert_allclose(got[k + 1], matrix, rtol=1e-8, atol=1e-8 * np.abs(matrix).max())
    assert used[-1]
    assert any(better)
    assert not used[0]
    # at the last point the secant equation holds: J'J + S maps the step nearly to the difference of gradients
    step = points[-2] - points[-3]
    j = [objective.linearization(torch.from_numpy(p)[None])[1] for p in points[-3:-1]]
    r = brown_dennis(torch.from_numpy(points[-2]))
    np.testing.assert_allclose(want[-1] @ step, (r @ (j[1] - j[0])).numpy(), rtol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_headline_large_residuals_take_a_third_of_the_evaluations(scale):
    learned = precond.least_squares(brown_dennis, scale * START, method="nl2sol")
    plain = precond.least_squares(brown_dennis, scale * START, method="trust-region-lm")
    assert learned.converged
    assert plain.converged
    torch.testing.assert_close(learned.x, plain.x, rtol=1e-6, atol=1e-8)
    assert 3 * learned.work.losses <= plain.work.losses
    assert precond.least_squares(brown_dennis, scale * START).method == "nl2sol (auto)"


def test_steps_are_gauss_newtons_where_the_residual_vanishes():
    def rosen(x):
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    runs = [
        precond.least_squares(rosen, torch.tensor([-1.2, 1.0]).double(), method=m)
        for m in (nl2sol(factor=100.0), "trust-region-lm")
    ]
    assert all(run.converged for run in runs)
    assert runs[0].work.losses <= runs[1].work.losses + 10


def test_dependent_columns_keep_the_model_whose_condition_is_not_squared():
    t = torch.linspace(0, 1.15, 24).double()
    y = 0.0951 * (-t).exp() + 0.8607 * (-3 * t).exp() + 1.5576 * (-5 * t).exp()

    def sums(x):  # Lanczos's sums of exponentials
        return x[0] * (-x[1] * t).exp() + x[2] * (-x[3] * t).exp() + x[4] * (-x[5] * t).exp() - y.round(decimals=4)

    objective = SquaresObjective(sums, AutogradJacobian(sums), work=Work())
    rule = StructuredSecant(TrustRegion(1.0), DenseInverse("more"))
    start = torch.tensor([[1.2, 0.3, 5.6, 5.5, 6.5, 7.6]]).double()
    state, point = rule.init(start), objective.point(start)
    for _ in range(30):
        advance = rule.advance(state, point, None, objective)
        if advance.failure is not None:
            break
        point = advance.point
        assert not state.whole
    assert float(point.loss) < 1e-6


def test_a_wrong_curvature_is_forgotten():
    rule = StructuredSecant(TrustRegion(1.0), DenseInverse("none"))

    def line(x):
        return x - 1

    objective = SquaresObjective(line, AutogradJacobian(line), work=Work())
    start = torch.full((1, 3), 50.0).double()
    state, point = rule.init(start), objective.point(start)
    state.whole, state.curvature = True, 50 * torch.eye(3).double()[None]
    for _ in range(6):
        point = rule.advance(state, point, None, objective).point
    assert float(state.curvature.abs().max()) < 1e-9  # made smaller until it fits
    assert float(point.loss) < 1e-12


def test_jacobians_known_by_products_leave_gauss_newtons_model():
    start = torch.zeros(3500).double()  # too many to form a Jacobian
    result = precond.least_squares(
        lambda x: torch.cat([x - 1, x[1:] * x.mean() / 10]), start, method=nl2sol(), max_iterations=1
    )
    assert result.work.losses <= 6  # one of them to see whether the Jacobian is sparse
    assert result.certificate.extra["loss"] < 3500 / 2
