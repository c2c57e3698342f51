"""What `precond.minimize` finds out beyond the gradient: saddle points, wrong derivatives, gradients of solutions."""

import io
import logging

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status, Work
from precond.preconditioners.lbfgs import LBFGS
from precond.solvers.check_derivatives import compare
from precond.solvers.progress_line import ProgressLine
from precond.solvers.smooth.curvature import smallest_curvature

D = torch.float64
METHODS = [
    "auto", "lbfgs", "newton-cg", "newton-cholesky", "regularized-newton", "gradient-normalized",
    "gradient-normalized-secant", "trust-region-newton", "adaptive-cubic",
]  # fmt: skip


# --- curvature and saddle points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", [[0.0, 0.0], [1.0, 0.0]])
def test_saddle_points_are_left(method, start):
    def fun(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    result = precond.minimize(fun, torch.tensor(start, dtype=D), method=method)
    assert result.status is Status.CONVERGED_GRADIENT, result.message
    assert abs(result.x[1]).item() == pytest.approx(0.5**0.5, abs=1e-5)
    assert result.certificate.extra["smallest curvature"] == pytest.approx(2, rel=1e-3)


def test_saddle_points_of_given_functions_are_left():
    def jac(x):
        return np.array([2 * x[0], 4 * x[1] ** 3 - 2 * x[1]])

    result = precond.minimize(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, np.zeros(2), jac=jac)
    assert result.converged
    assert result.certificate.extra["smallest curvature"] > 1.9
    assert result.work.gradients > result.work.hvps > 0


def test_a_saddle_that_may_not_be_left_is_named():
    result = precond.minimize(lambda x: x[0] ** 2 - x[1] ** 2, torch.zeros(2, dtype=D), max_iterations=0)
    assert result.status is Status.CONVERGED_SADDLE
    assert "no minimum" in result.message
    assert result.certificate.extra["smallest curvature"] == pytest.approx(-2)


@pytest.mark.parametrize("method", ["auto", "lbfgs", "newton-cg", "newton-cholesky"])
def test_falling_forever_is_noticed_at_once(method):
    for fun in (lambda x: x.sum(), lambda x: -(x**2).sum(), lambda x: x.sum() ** 3):
        result = precond.minimize(fun, -torch.ones(3, dtype=D), method=method, max_iterations=200)
        assert result.status is Status.FAILED_UNBOUNDED
        assert result.certificate.extra["loss"] < -1e20


class Dense:
    """A symmetric matrix with products of rows."""

    def __init__(self, matrix):
        self.matrix, self.dtype = matrix, matrix.dtype

    def floor(self):
        return None

    def matvec(self, x):
        return x @ self.matrix

    def assembled(self, *, coarse=False):
        return None


@pytest.mark.parametrize(
    "values", [[1.0] * 8, [0.0] * 8, [-3.0, 1.0] * 4, list(range(-1, 7)), [1e-9, -1e-12] + [5.0] * 6]
)
def test_curvature_by_products_when_the_space_is_used_up(values):
    q = torch.linalg.qr(torch.randn(8, 8, dtype=D, generator=torch.Generator().manual_seed(0))).Q
    matrix = q * torch.tensor(values, dtype=D) @ q.T
    found = smallest_curvature(Dense((matrix + matrix.T) / 2), torch.zeros(1, 8, dtype=D), 1e-8, 10)
    assert found.exact
    assert found.smallest == pytest.approx(min(values), abs=1e-9)
    assert found.negative == (min(values) < -1e-8)
    d = found.direction[0]
    assert float(d @ matrix @ d) == pytest.approx(found.smallest, abs=1e-9)


# --- wrong derivatives


def wrong(x):
    g = 2 * x
    g[1] *= -1
    return g


def test_a_wrong_gradient_is_named_by_its_entry():
    def fun(x):
        return float(x @ x)

    with pytest.raises(BadInputError, match=r"jac disagrees.*entry \[1\] is -2, differences give 2 \(relative error"):
        precond.minimize(fun, np.ones(3), jac=wrong, check_gradients=True)
    result = precond.minimize(fun, np.ones(3), jac=wrong)
    assert result.status is Status.FAILED_LINE_SEARCH
    assert "entry [1]" in result.note
    assert result.note in result.message


def test_a_gradient_of_something_else_is_no_success():
    result = precond.minimize(lambda x: float((x**4).sum()), np.ones(3), jac=lambda x: x**3)
    assert result.status is Status.FAILED_GRADIENT
    assert not result.converged
    assert "relative error" in result.note


def test_wrong_products_and_jacobians_are_named():
    with pytest.raises(BadInputError, match="hessp disagrees with differences of jac"):
        precond.minimize(
            lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, hessp=lambda x, p: 3 * p, check_gradients=True
        )  # fmt: skip

    def residual(b):
        return np.array([b[0] - 1, b[1] ** 2 - 4])

    def jac(b):
        return np.array([[1.0, 0], [0, -2 * b[1]]])

    with pytest.raises(BadInputError, match=r"entry \[1, 1\]"):
        precond.least_squares(residual, np.array([3.0, 3.0]), jac=jac, check_gradients=True)
    result = precond.least_squares(residual, np.array([3.0, 3.0]), jac=jac)
    assert not result.converged
    assert "entry [1, 1]" in result.note


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
def test_right_derivatives_pass_however_the_function_is_rounded(offset):
    def fun(x):
        return float(np.float64(offset) + np.sum(np.sin(x) * np.exp(x)))

    def jac(x):
        return np.exp(x) * (np.sin(x) + np.cos(x))

    result = precond.minimize(fun, np.linspace(-1, 1, 5), jac=jac, check_gradients=True, max_iterations=0)
    assert result.status is Status.STOPPED_STEPS


def test_few_entries_of_many_are_compared():
    calls = []

    def function(x):
        calls.append(1)
        return (x**2).sum()[None]

    x = torch.ones(1000, dtype=D)
    assert compare(function, 2 * x[None], x) is None
    assert len(calls) == 4 * 200 + 1
    assert compare(function, 3 * x[None], x).error == pytest.approx(1 / 3, rel=1e-3)


def test_values_of_python_are_read_in_double():
    result = precond.minimize(lambda x: float(x @ x) + 1e-3, np.ones(2), jac=lambda x: 2 * x, tol=1e-12)
    assert result.converged
    assert result.certificate.extra["loss"] == pytest.approx(1e-3, rel=1e-14)


# --- further arguments, and gradients through a minimizer


def test_further_arguments():
    result = precond.minimize(lambda x, a, b: ((x - a) ** 2).sum() + b, torch.zeros(2, dtype=D), args=(3.0, 1.0))
    torch.testing.assert_close(result.x, torch.full((2,), 3.0, dtype=D))
    result = precond.minimize(
        lambda x, a: a * x @ x, np.ones(2), jac=lambda x, a: 2 * a * x, hessp=lambda x, p, a: 2 * a * p, args=(2.0,)
    )
    assert result.converged
    fit = precond.least_squares(lambda x, a: x - a, np.zeros(2), jac=lambda x, a: np.eye(2), args=(5.0,))
    np.testing.assert_allclose(fit.x, 5.0)


def solution(theta, weight, *, form="tensor", preconditioner=None):
    def fun(x, theta, weight):
        x = x["x"] if form == "dict" else x
        return (torch.cosh(x - theta) * weight.exp()).sum() + 0.1 * x.sum() ** 2 + theta.prod() * x[0]

    x0 = torch.zeros(3, dtype=D)
    result = precond.minimize(
        fun, {"x": x0} if form == "dict" else x0, args=(theta, weight), tol=1e-11, preconditioner=preconditioner
    )
    assert result.converged
    return result.x["x"] if form == "dict" else result.x


@pytest.mark.parametrize("form", ["tensor", "dict"])
@pytest.mark.parametrize("preconditioner", [None, "nystrom"])
def test_gradients_of_a_minimizer(form, preconditioner):
    theta, weight = (torch.tensor(v, dtype=D, requires_grad=True) for v in ([0.3, -0.2, 0.7], [0.1, 0.5, -0.3]))
    assert torch.autograd.gradcheck(
        lambda t, w: solution(t, w, form=form, preconditioner=preconditioner), (theta, weight), eps=1e-5, atol=1e-5
    )


def test_gradients_of_a_fit():
    t = torch.linspace(0, 1, 12, dtype=D)
    data = (2 * torch.exp(-1.5 * t) + 0.1 * torch.sin(9 * t)).requires_grad_()

    def fit(data):
        return precond.least_squares(
            lambda b, data: b[0] * torch.exp(-b[1] * t) - data, torch.ones(2, dtype=D), args=(data,), tol=1e-12
        ).x

    assert torch.autograd.gradcheck(fit, (data,), eps=1e-5, atol=1e-6)


def test_no_graph_where_none_is_asked_for():
    theta = torch.ones(2, dtype=D, requires_grad=True)
    with torch.no_grad():
        assert not precond.minimize(
            lambda x, t: ((x - t) ** 2).sum(), torch.zeros(2, dtype=D), args=(theta,)
        ).x.requires_grad
    with pytest.raises(BadInputError, match="detach"):
        precond.minimize(lambda x, t: x @ x, np.ones(2), jac=lambda x, t: 2 * x, args=(theta,))


# --- inner preconditioners


@pytest.mark.parametrize("preconditioner", ["nystrom", LBFGS(20)])
def test_inner_systems_take_preconditioners(preconditioner):
    scales = torch.logspace(0, 5, 30, dtype=D)

    def fun(x):
        return (scales * (x - 1) ** 2).sum() + (x**4).sum()

    result = precond.minimize(fun, torch.zeros(30, dtype=D), preconditioner=preconditioner, tol=1e-6)
    assert result.converged, result.message
    assert "inside" in result.method
    with pytest.raises(IncompatibleError, match="newton-cg"):
        precond.minimize(fun, torch.zeros(30, dtype=D), method="lbfgs", preconditioner=preconditioner)


# --- problems, progress


def test_problems_are_minimized_from_their_own_start():
    from precond.problems.logistic import logistic

    result = precond.minimize(logistic())
    assert result.converged
    with pytest.raises(BadInputError, match="no residuals"):
        precond.least_squares(logistic())
    with pytest.raises(BadInputError, match="x0 is missing"):
        precond.minimize(lambda x: x @ x)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_says_how_long(monkeypatch, caplog):
    import precond.solvers.progress_line as module

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stream = Terminal()
    line = ProgressLine(1e-6, 1000, stream)
    for k in range(20):
        now[0] = float(k)
        line.see(k, 10.0 ** (-k / 10))
    assert "iteration 19, 1.26e-02 (to reach 1.0e-06), 1.0 iterations/s, about 41 s left" in stream.getvalue()
    assert "iteration 4," not in stream.getvalue(), "nothing in the first seconds"
    line.end()
    assert stream.getvalue().endswith("\r")
    plain = io.StringIO()
    with caplog.at_level(logging.INFO, logger="precond"):
        other = ProgressLine(1e-6, 1000, plain)
        now[0] += 30
        other.see(1, 1.0)
    assert plain.getvalue() == ""
    assert "iteration 1" in caplog.text


def test_work_of_curvature_is_counted():
    calls = []

    def hessp(x, p):
        calls.append(1)
        return 2 * p

    result = precond.minimize(lambda x: float(x @ x), np.ones(50), jac=lambda x: 2 * x, hessp=hessp)
    assert result.converged
    assert len(calls) == result.work.hvps
    assert isinstance(result.work, Work)
