"""`precond.least_squares` on modules, on large problems, and where a success would be false."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import IncompatibleError, Status, Work
from precond.preconditioners.identity import Identity
from precond.solvers.squares.certify import hessian_by_differences
from precond.solvers.squares.forms import ResidualForm

D = torch.float64


def broyden(x):
    """Broyden's tridiagonal function, whose Jacobian has three diagonals."""
    zero = torch.zeros(1, dtype=x.dtype)
    return (3 - 2 * x) * x - torch.cat([zero, x[:-1]]) - 2 * torch.cat([x[1:], zero]) + 1


def broyden_jacobian(x):
    n = len(x)
    return scipy.sparse.diags_array(
        [np.full(n - 1, -1.0), 3 - 4 * np.asarray(x), np.full(n - 1, -2.0)], offsets=[-1, 0, 1], shape=(n, n)
    ).tocsr()


@pytest.mark.parametrize("n", [320, 4000])
def test_large_problems_with_sparse_derivatives_recover_them(n):
    result = precond.least_squares(broyden, -torch.ones(n, dtype=D))
    assert result.converged, result.message
    assert "sparse-lm" in result.method
    assert float(broyden(result.x).norm()) <= 1e-8
    assert 0 < result.work.matvecs < 400


def test_a_dense_jacobian_is_used_by_products():
    mixed = torch.randn(400, 350, dtype=D, generator=torch.Generator().manual_seed(0)) / 20

    def residual(x):
        return (mixed @ x).tanh() + 0.1 * (mixed @ x) - 0.3

    result = precond.least_squares(residual, torch.zeros(350, dtype=D))
    assert result.converged, result.message
    assert "krylov-lm" in result.method
    assert result.work.matvecs > 0


def smoothing(n):
    """A fit of a step that saturates, with a penalty on differences: ill-conditioned, and banded."""
    t = np.linspace(0, 6, n)
    seen, weight = np.tanh(2 * np.sin(t)) + 0.1 * np.cos(40 * t), n / 100

    def residual(x):
        both = (np.tanh, np.concatenate) if isinstance(x, np.ndarray) else (torch.tanh, torch.cat)
        y = seen if isinstance(x, np.ndarray) else torch.from_numpy(seen)
        return both[1]([both[0](2 * x) - y, weight * (x[1:] - x[:-1])])

    def jacobian(x):
        step = scipy.sparse.diags_array([-weight, weight], offsets=[0, 1], shape=(n - 1, n))
        return scipy.sparse.vstack([scipy.sparse.diags_array(2 / np.cosh(2 * x) ** 2), step]).tocsr()

    return residual, jacobian


@pytest.mark.parametrize("n", [1000, 5000])
def test_sparse_factors_take_no_more_products_where_the_condition_grows(n):
    residual, jacobian = smoothing(n)
    calls = []
    written = precond.least_squares(lambda x: (calls.append(x), residual(x))[1], np.zeros(n), jac=jacobian)
    assert written.converged, written.message
    assert written.method == "sparse-lm (auto)"
    assert len(calls) < 30
    assert written.work.matvecs < 200
    by_torch = precond.least_squares(residual, torch.zeros(n, dtype=D))
    assert by_torch.method == "sparse-lm (auto)"
    np.testing.assert_allclose(by_torch.x.numpy(), written.x, atol=1e-6)


def test_factors_that_would_fill_are_left_alone():
    n = 5000
    places = np.random.default_rng(0).integers(0, n, (2 * n, 4))
    rows = scipy.sparse.csr_array((np.ones(8 * n), places.ravel(), 4 * np.arange(2 * n + 1)), shape=(2 * n, n))
    target = np.cos(np.arange(2 * n))
    result = precond.least_squares(
        lambda x: np.arctan(rows @ x) - target, np.zeros(n),
        jac=lambda x: scipy.sparse.diags_array(1 / (1 + (rows @ x) ** 2)) @ rows, max_iterations=2,
    )  # fmt: skip
    assert "sparse-lm" not in result.method


@pytest.mark.parametrize("form", ["sparse", "operator"])
def test_sparse_jacobians_and_linear_operators(form):
    wrap = scipy.sparse.linalg.aslinearoperator if form == "operator" else lambda a: a
    for n in (20, 4000):
        result = precond.least_squares(
            lambda x: broyden(torch.from_numpy(x)).numpy(), -np.ones(n), jac=lambda x: wrap(broyden_jacobian(x))
        )
        assert result.converged, result.message
        assert np.linalg.norm(broyden(torch.from_numpy(result.x)).numpy()) <= 1e-8


def test_inner_systems_take_a_preconditioner():
    assert precond.least_squares(broyden, -torch.ones(30, dtype=D), preconditioner=Identity()).converged
    with pytest.raises(IncompatibleError, match="krylov-lm"):
        precond.least_squares(
            broyden, -torch.ones(30, dtype=D), method="levenberg-marquardt", preconditioner=Identity()
        )


def test_scales_of_variables_do_not_matter_to_products():
    scales = torch.logspace(-6, 6, 320, dtype=D)
    result = precond.least_squares(lambda y: broyden(y * scales), -1 / scales, method="auto")
    assert result.converged
    assert float(broyden(result.x * scales).norm()) <= 1e-7


def test_a_module_is_fitted_in_place():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1).double()
    x = torch.randn(20, 3, dtype=D)
    y = x @ torch.tensor([1.0, -2.0, 3.0], dtype=D) + 0.5
    result = precond.least_squares(lambda m: m(x)[:, 0] - y, model)
    assert result.converged
    assert result.x is model
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[1.0, -2.0, 3.0]], dtype=D))


@pytest.mark.parametrize("method", ["lbfgs", "newton-cg", "gradient-normalized", "adaptive-cubic"])
def test_methods_of_minimize_run_with_the_gauss_newton_matrix(method):
    t = torch.linspace(0, 1, 20, dtype=D)

    def residual(b):
        return b[0] * torch.exp(-b[1] * t) - 2 * torch.exp(-3 * t)

    result = precond.least_squares(residual, torch.ones(2, dtype=D), method=method, tol=1e-6)
    assert float(residual(result.x).norm()) < 1e-3


def test_a_saddle_point_is_no_fit():
    def residual(x):
        return torch.stack([x[0] ** 2 - 1, x[1]])

    result = precond.least_squares(residual, torch.tensor([0.0, 1.0], dtype=D))
    assert result.converged
    assert abs(float(result.x[0])) == pytest.approx(1)


def test_a_minimum_where_a_column_vanishes_is_certified():
    def residual(x):
        return torch.stack([x[0] ** 2 + 1, 10 * x[1]])

    result = precond.least_squares(residual, torch.tensor([2.0, 1.0], dtype=D))
    assert result.status is Status.CONVERGED_GRADIENT
    torch.testing.assert_close(result.x, torch.zeros(2, dtype=D), atol=1e-7, rtol=0)
    given = precond.least_squares(lambda x: residual(torch.from_numpy(x)).numpy(), np.array([2.0, 1.0]))
    assert given.converged


@pytest.mark.parametrize(
    "residual",
    [
        lambda x: torch.exp(-(x**2)) + 1.0,  # flat where it starts
        lambda x: 0 * x + 1.0,
        lambda x: torch.exp(-x) + 1.0,  # its infimum is at infinity
        lambda x: torch.atan(x) - 2.0,
    ],
)
def test_flat_residuals_are_no_success(residual):
    result = precond.least_squares(residual, torch.full((2,), 30.0, dtype=D), max_iterations=100)
    assert not result.converged, result.message


def test_problems_that_know_their_residuals():
    from precond.core import Budget, Metric
    from precond.problems.base import Smooth, SmoothInstance

    instance = SmoothInstance(
        lambda x: (x - 2).square().sum() / 2, torch.zeros(3, dtype=D), lambda x, loss, g: loss, lambda x: x - 2
    )
    problem = Smooth(
        name="toy", description="A toy.", metric=Metric("loss"), target=1e-8, horizon=Budget(steps=5),
        build=lambda seed, device: instance,
    )  # fmt: skip
    torch.testing.assert_close(precond.least_squares(problem).x, torch.full((3,), 2.0, dtype=D))
    torch.testing.assert_close(precond.minimize(problem).x, torch.full((3,), 2.0, dtype=D))


def test_a_variable_that_passes_next_to_zero_keeps_its_differences():
    """Watson's function of six variables: the first of them moves from zero to 1e-62 before it finds its value."""
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(6)

    def watson(x):
        slope = (j[1:] * t ** (j[1:] - 1)) @ x[1:]
        return np.concatenate([slope - ((t**j) @ x) ** 2 - 1, [x[0], x[1] - x[0] ** 2 - 1]])

    result = precond.least_squares(watson, np.zeros(6))
    assert result.converged, result.message
    assert float(np.sum(watson(result.x) ** 2)) == pytest.approx(2.28767e-3, rel=1e-5)


@pytest.mark.parametrize("form", [np.array, torch.tensor])
def test_a_sum_of_squares_that_overflows_is_no_solution(form):
    """Jennrich and Sampson's function from a hundred times its start, where residuals of 1e173 are finite."""
    exp = np.exp if form is np.array else torch.exp
    i = np.arange(1.0, 11.0) if form is np.array else torch.arange(1, 11, dtype=D)
    start = np.array([30.0, 40.0]) if form is np.array else torch.tensor([30.0, 40.0], dtype=D)
    result = precond.least_squares(lambda x: 2 + 2 * i - (exp(i * x[0]) + exp(i * x[1])), start)
    assert result.status is Status.FAILED_NON_FINITE


def test_a_newton_step_ends_what_losses_cannot_tell_apart():
    """Freudenstein and Roth's function, whose local minimum has a large residual and an almost singular Jacobian."""

    def residual(x):
        u, v = x
        return np.array([u - 13 + ((5 - v) * v - 2) * v, u - 29 + ((v + 1) * v - 14) * v])

    result = precond.least_squares(residual, np.array([0.5, -2.0]))
    assert result.converged, result.message
    assert float(np.sum(residual(result.x) ** 2)) == pytest.approx(48.98425, rel=1e-6)


def chebyquad(x):
    """Sums of shifted Chebyshev polynomials, as many as variables, less their integrals."""
    values = [np.ones_like(x), 2 * x - 1]
    for _ in range(len(x) - 1):
        values.append(2 * values[1] * values[-1] - values[-2])
    integrals = [-1 / (i * i - 1) if i % 2 == 0 else 0.0 for i in range(1, len(x) + 1)]
    return np.array([v.mean() for v in values[1:]]) - integrals


@pytest.mark.parametrize(("n", "times", "least"), [(7, 10, 0.0), (7, 100, 0.0), (8, 100, 3.516874e-3)])
def test_starts_that_are_far_too_large(n, times, least):
    """Columns of the Jacobian are up to 1e16 times too large there, and as scales they would hold variables back."""
    result = precond.least_squares(chebyquad, times * np.arange(1, n + 1) / (n + 1))
    assert result.converged, result.message
    assert float(np.sum(chebyquad(result.x) ** 2)) == pytest.approx(least, rel=1e-5, abs=1e-20)


def test_differences_are_not_taken_again_for_a_certificate():
    calls = [0]

    def residual(x):
        calls[0] += 1
        return np.concatenate([np.exp(x) - 2, x - 1])

    result = precond.least_squares(residual, np.zeros(6))
    assert result.converged, result.message
    assert calls[0] == result.work.losses + 1


def test_differences_are_taken_again_where_a_function_changes_its_mind():
    """At the point that it was at before it says other values, for which the old Jacobian would be a minimum's."""
    seen = set()
    changed = [False]

    def residual(x):
        changed[0] |= x.tobytes() in seen
        seen.add(x.tobytes())
        return np.array([x[0] - 1, 2.5 + 3 * (x[0] - 1) if changed[0] else 2.0])

    result = precond.least_squares(residual, np.array([3.0]), method="levenberg-marquardt")
    assert changed[0]
    assert result.certificate.value > 0.1


def test_a_run_that_forward_differences_end_goes_on_with_better_ones():
    """The Gaussian function (More, Garbow, Hillstrom 1981), whose smallest residual is 1e-4, one variable at zero."""
    y = np.array([9, 44, 175, 540, 1295, 2420, 3521, 3989]) / 1e4
    y = np.concatenate([y, y[-2::-1]])
    t = (8 - np.arange(1, 16)) / 2

    result = precond.least_squares(lambda x: x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - y, np.array([0.4, 1.0, 0.0]))
    assert result.converged, result.message
    assert " after " not in result.method
    assert float(result.certificate.extra["loss"]) == pytest.approx(5.63964e-9, rel=1e-4)


def test_hessians_by_differences():
    """Second differences of a sum of squares against autograd, with variables of very different scales."""
    scales = torch.tensor([1.0, 1e3, 1e-3], dtype=D)

    def residual(x):
        u, v, w = x / scales
        return torch.stack([torch.exp(u) * v - 2, u * w * w + v, torch.sin(v * w), u + w])

    def by_numpy(x):
        return residual(torch.from_numpy(np.asarray(x))).numpy()

    x = scales * torch.tensor([0.7, -0.4, 1.3], dtype=D)
    form = ResidualForm.of(by_numpy, (1e4 * x).numpy(), lambda x: np.zeros((4, 3)))
    jacobian = torch.autograd.functional.jacobian(residual, x)
    work = Work()
    found = hessian_by_differences(form, x, residual(x), jacobian, torch.ones(3, dtype=torch.bool), work)
    wanted = torch.autograd.functional.hessian(lambda y: residual(y).square().sum() / 2, x)
    torch.testing.assert_close(found * scales * scales[:, None], wanted * scales * scales[:, None], rtol=0, atol=1e-6)
    assert work.losses == 12


@pytest.mark.parametrize("start", [0.0, 3.0])
@pytest.mark.parametrize("form", ["torch", "differences"])
def test_a_jacobian_that_vanishes_at_a_minimum(form, start):
    """Where J = 0 and r is not, the whole Hessian tells a minimum, of one variable and of one beside others."""
    if form == "torch":
        alone = precond.least_squares(lambda x: x**2 + 5, torch.tensor([start]).double())
        beside = precond.least_squares(
            lambda x: torch.stack([x[0] ** 2 + 5, x[1] - 1]), torch.full((2,), start).double()
        )
    else:
        alone = precond.least_squares(lambda x: np.asarray(x) ** 2 + 5, np.array([start]))
        beside = precond.least_squares(lambda x: np.array([x[0] ** 2 + 5, x[1] - 1]), np.full(2, start))
    for found in (alone, beside):
        assert found.converged, found.message
        assert abs(float(found.x[0])) < 1e-6
    assert "whole Hessian" in alone.certificate.quantity


def test_a_jacobian_that_vanishes_at_a_maximum_or_everywhere():
    left = precond.least_squares(lambda x: x**2 - 5, torch.zeros(1).double())
    assert left.converged, left.message
    assert abs(float(left.x)) == pytest.approx(5**0.5)
    constant = precond.least_squares(lambda x: 0 * x + 5, torch.ones(1).double())
    assert not constant.converged, "nothing tells a minimum from any other point"
