"""Newton-CG (Dembo & Steihaug 1983; Nocedal & Wright, Algorithm 7.1) against plain loops in NumPy."""

import numpy as np
import pytest
import torch

import precond
from precond.core import Evidence
from precond.krylov.cg import CG
from precond.operators.hessian import Hessian
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf, ShiftRelative, SquareRoot
from precond.recipes.second_order import newton_cg
from tests.papers.smooth_toys import Logistic, Rosenbrock, path


def truncated_newton_direction(h, g, cap):
    """The inner loop of Algorithm 7.1."""
    norm = np.linalg.norm(g)
    tolerance = min(cap, np.sqrt(norm)) * norm
    z, r, d = np.zeros_like(g), g.copy(), -g
    for j in range(2 * len(g)):
        curvature = d @ h @ d
        if curvature <= 0:
            return -g if j == 0 else z
        alpha = (r @ r) / curvature
        z = z + alpha * d
        new = r + alpha * (h @ d)
        if np.linalg.norm(new) <= tolerance:
            return z
        d = -new + (new @ new) / (r @ r) * d
        r = new
    return z


def reference(problem, x, iterations, cap=0.5, c1=1e-4):
    points = [x]
    for _ in range(iterations):
        f, g = problem.f(x), problem.g(x)
        d = truncated_newton_direction(problem.h(x), g, cap)
        slope, alpha = g @ d, 1.0
        while (value := problem.f(x + alpha * d)) > f + c1 * alpha * slope:
            parabola = -slope * alpha**2 / (2 * (value - f - slope * alpha))
            alpha = min(max(parabola, 0.1 * alpha), 0.5 * alpha)
        x = x + alpha * d
        points.append(x)
    return np.array(points)


@pytest.mark.parametrize(("problem", "iterations"), [(Logistic(), 6), (Rosenbrock(), 12)], ids=["convex", "indefinite"])
@pytest.mark.parametrize("cap", [0.5, 0.1])
def test_same_iterates_as_the_plain_loops(problem, iterations, cap):
    x0 = np.linspace(-1.2, 1.0, problem.n)
    want = reference(problem, x0, iterations, cap)
    got = path(problem, x0, newton_cg(cap=cap), iterations)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_superlinear_with_few_products():
    """The headline: the gradient's norm falls faster than linearly, and early systems are solved crudely."""
    problem = Logistic(m=200, n=30)
    result = precond.minimize(problem.fun, torch.zeros(30).double(), method="newton-cg", tol=1e-12)
    assert result.converged, result.message
    ratios = [b / a for a, b in zip(result.history[:-1], result.history[1:], strict=True)]
    assert ratios[-1] < 1e-3 < ratios[0]
    assert result.work.hvps < 30 * result.iterations
    assert result.work.gradients == result.iterations + 1  # the accepted trial is never evaluated again


def operator(matrix):
    from precond.core import Work

    work = Work()
    return Hessian(lambda v: matrix @ v, matrix[0], work), work


def fed(matrix, forcing, iteration=None):
    part = InverseOf(iteration or CG(), Identity(), forcing)
    state = part.init(matrix[:1])
    part.observe(state, Evidence(operator=operator(matrix)[0]))
    return part, state


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_inverse_of_meets_its_forcing_tolerance(shift):
    a = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a @ a.T + 0.1 * torch.eye(12)
    v = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [[1e-6], [1.0], [10.0]], dtype=torch.float64
    )
    part, state = fed(a, SquareRoot())
    u = part.apply(state, v, shift=shift)
    residual = (v - u @ (a + shift * torch.eye(12))).norm(dim=1)
    norm = v.norm(dim=1)
    assert (residual <= norm * norm.sqrt().clamp(max=0.5) * (1 + 1e-8)).all()
    for row in range(3):  # members of a batch never interact
        torch.testing.assert_close(part.apply(state, v[row : row + 1], shift=shift), u[row : row + 1])
    part, state = fed(a, ShiftRelative(0.01))
    u = part.apply(state, v, shift=0.7)
    residual = (v - u @ (a + 0.7 * torch.eye(12))).norm(dim=1)
    assert (residual <= 0.01 * 0.7 * u.norm(dim=1) * (1 + 1e-8)).all()


def test_negative_curvature_gives_the_argument_or_the_truncated_iterate():
    v = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    part, state = fed(-torch.eye(3, dtype=torch.float64), SquareRoot())
    torch.testing.assert_close(part.apply(state, v), v)
    part, state = fed(torch.zeros(3, 3, dtype=torch.float64), SquareRoot())
    torch.testing.assert_close(part.apply(state, v), v)
    late = torch.diag(torch.tensor([3.0, 2.0, -0.1], dtype=torch.float64))
    w = torch.tensor([[1.0, 1.0, 0.1]], dtype=torch.float64)
    part, state = fed(late, SquareRoot(1e-6))
    want = -truncated_newton_direction(late.numpy(), w[0].numpy(), 1e-6)
    torch.testing.assert_close(part.apply(state, w)[0], torch.from_numpy(want))
    assert not torch.equal(part.apply(state, w), w)


def test_zero_argument_gives_zero():
    part, state = fed(torch.eye(3, dtype=torch.float64), SquareRoot())
    assert torch.equal(part.apply(state, torch.zeros(1, 3, dtype=torch.float64)), torch.zeros(1, 3).double())


@pytest.mark.parametrize("method", ["auto", "newton-cg", "newton-cholesky"])
def test_a_hessian_that_vanishes_in_most_directions_gives_a_step_of_some_length(method):
    g = torch.Generator().manual_seed(5)
    a, w = torch.randn(1000, 100, generator=g).double(), torch.randn(100, generator=g).double()
    y = a @ w + torch.randn(1000, generator=g).double() ** 3
    few = torch.nn.functional.huber_loss(torch.zeros(1000).double(), y, reduction="none") < 0.5
    assert 0 < int(few.sum()) < 100  # residuals that bend: fewer than variables, so that Newton's systems are singular
    result = precond.minimize(
        lambda x: torch.nn.functional.huber_loss(a @ x, y), torch.zeros(100).double(), method=method, tol=1e-8
    )
    assert result.converged, result.message
    assert result.iterations < 30
