"""Levenberg-Marquardt, damped and as a trust region, against normal equations in plain NumPy."""

import itertools

import numpy as np
import pytest
import torch

import precond
from precond.core import Evidence, Objective
from precond.operators.gauss_newton import GaussNewton
from precond.preconditioners.dense_inverse import DenseInverse
from precond.recipes.least_squares import geodesic_lm, levenberg_marquardt, trust_region_lm

T = np.linspace(0.0, 2.0, 15)
Y = 3.0 * np.exp(-1.3 * T) + 0.5 + 0.05 * np.cos(9 * T)


def residual(b):
    t, y = torch.from_numpy(T), torch.from_numpy(Y)
    return b[0] * (b[1] * t).exp() + b[2] - y


def r(b):
    return b[0] * np.exp(b[1] * T) + b[2] - Y


def j(b):
    e = np.exp(b[1] * T)
    return np.stack([e, b[0] * T * e, np.ones_like(T)], axis=1)


def path(method, x0, iterations):
    points = []
    precond.least_squares(
        residual, torch.tensor(x0, dtype=torch.float64), method=method, max_iterations=iterations, tol=1e-14,
        callback=lambda event: points.append(event.x.numpy().copy()),
    )  # fmt: skip
    return np.array(points)


def damped(x, mu, iterations, scaling, geodesic=False):
    """Nielsen's algorithm with More's scaling, by normal equations."""
    points, nu, d2 = [x], 2.0, np.zeros(len(x))
    while len(points) <= iterations:
        res, jac = r(x), j(x)
        columns = (jac**2).sum(0)
        d2 = {"more": np.maximum(d2, columns), "columns": columns, "none": np.ones(len(x))}[scaling]
        while True:
            matrix = jac.T @ jac + mu * np.diag(d2)
            step = -np.linalg.solve(matrix, jac.T @ res)
            predicted = ((res**2).sum() - ((res + jac @ step) ** 2).sum()) / 2
            trusted = True
            if geodesic:
                e = np.exp(x[1] * T)
                second = 2 * step[0] * step[1] * T * e + x[0] * step[1] ** 2 * T**2 * e
                a = -np.linalg.solve(matrix, jac.T @ second)
                trusted = np.linalg.norm(a) <= 0.75 * np.linalg.norm(step)
                step = step + a / 2
            rho = ((res**2).sum() - (r(x + step) ** 2).sum()) / 2 / predicted
            if trusted and rho > 1e-3:
                break
            mu, nu = mu * nu, nu * 2
        x, mu, nu = x + step, mu * max(1 / 3, 1 - (2 * min(rho, 1) - 1) ** 3), 2.0
        points.append(x)
    return np.array(points)


@pytest.mark.parametrize("scaling", ["more", "columns", "none"])
@pytest.mark.parametrize("mu", [1e-3, 10.0])
def test_damped_iterates(scaling, mu):
    x0 = np.array([1.0, 0.5, 2.0])
    want = damped(x0, mu, 8, scaling)
    got = path(levenberg_marquardt(damping=mu, scaling=scaling), x0, 8)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)


def test_some_trials_are_rejected_above():
    """So that the growth of the damping is compared, too."""
    x0 = np.array([1.0, 0.5, 2.0])
    result = precond.least_squares(residual, torch.from_numpy(x0), method="levenberg-marquardt", max_iterations=8)
    assert result.work.losses > 9


@pytest.mark.parametrize("mu", [1e-3, 1.0])
def test_geodesic_iterates(mu):
    x0 = np.array([1.0, 0.5, 2.0])
    got = path(geodesic_lm(damping=mu), x0, 7)
    np.testing.assert_allclose(got, damped(x0, mu, 7, "more", geodesic=True), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("factor", [0.1, 1.0])
def test_trust_region_steps_solve_their_subproblem(factor):
    """Each step is a damped one; it has no shift, or the length of a region that obeys More's rules."""
    x0 = np.array([1.0, 0.5, 2.0])
    points = path(trust_region_lm(factor=factor), x0, 10)
    d2 = (j(x0) ** 2).sum(0)
    radius = factor * np.sqrt((d2 * x0**2).sum())
    losses = [(r(x) ** 2).sum() / 2 for x in points]
    assert (np.diff(losses) < 1e-15).all()
    short = 0
    for k, (x, new) in enumerate(itertools.pairwise(points)):
        d2 = np.maximum(d2, (j(x) ** 2).sum(0))
        step, jac, res = new - x, j(x), r(x)
        length = np.sqrt((d2 * step**2).sum())
        if np.linalg.norm(jac.T @ res) < 1e-6:
            break
        left = -(jac.T @ (res + jac @ step))  # equals mu D^2 step
        mu = (left @ step) / ((d2 * step) @ step)
        assert mu > -1e-9
        np.testing.assert_allclose(left, mu * d2 * step, atol=1e-7 * np.linalg.norm(jac.T @ res))
        full = -np.linalg.solve(jac.T @ jac, jac.T @ res)
        if mu > 1e-9 and k == 0:
            assert length <= 1.1 * radius * (1 + 1e-9)
        if mu > 1e-9:
            short += 1
            assert length < np.sqrt((d2 * full**2).sum())
    assert short > 0 or factor == 1.0


def test_dense_inverse_keeps_the_condition_of_the_factor():
    """Singular values of J, not eigenvalues of J'J: a condition number of 1e11 leaves five digits."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(9, 4)))
    p, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    jac = q * np.array([1, 1e-3, 1e-7, 1e-11]) @ p.T
    part = DenseInverse()
    state = part.init(torch.zeros(1, 4, dtype=torch.float64))
    part.observe(state, Evidence(operator=GaussNewton(torch.from_numpy(jac))))
    part.refresh(state)
    v = p[:, 3]
    got = part.apply(state, torch.from_numpy(v)[None])[0].numpy()
    assert abs(got @ v / 1e22 - 1) < 1e-3


def test_gauss_newton_knows_its_factor():
    jac = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator, v = GaussNewton(jac), torch.ones(2, 3, dtype=torch.float64)
    torch.testing.assert_close(operator.matvec(v), v @ jac.T @ jac)
    torch.testing.assert_close(operator.diagonal(), (jac.T @ jac).diagonal())
    assert Objective.squares is False


def test_headline_freedom_from_scale():
    """Scaling a variable by a power of two changes nothing but rounding (More 1978, section 3)."""
    scales = torch.tensor([2.0**20, 2.0**-20, 1.0], dtype=torch.float64)
    x0 = torch.tensor([1.0, -0.3, 2.0], dtype=torch.float64)
    for method in ("levenberg-marquardt", "trust-region-lm"):
        plain = precond.least_squares(residual, x0, method=method)
        scaled = precond.least_squares(lambda z: residual(z / scales), x0 * scales, method=method)
        assert plain.converged
        assert plain.iterations == scaled.iterations
        torch.testing.assert_close(scaled.x / scales, plain.x, rtol=1e-8, atol=0)
