"""`precond.least_squares` as a user calls it: forms, certificates, false successes, bad input, counted work."""

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status, UnknownNameError

T = np.linspace(0.1, 3.0, 20)
Y = 2.0 * (1 - np.exp(-0.7 * T)) + 0.02 * np.sin(7 * T)


def numpy_residual(b):
    return b[0] * (1 - np.exp(-b[1] * T)) - Y


def numpy_jac(b):
    return np.stack([1 - np.exp(-b[1] * T), b[0] * T * np.exp(-b[1] * T)], axis=1)


def torch_residual(b):
    t = torch.from_numpy(T)
    return b[0] * (1 - (-b[1] * t).exp()) - torch.from_numpy(Y)


def solution():
    """By undamped Gauss-Newton with a QR factorization."""
    b = np.array([2.0, 0.7])
    for _ in range(50):
        b = b - np.linalg.lstsq(numpy_jac(b), numpy_residual(b), rcond=None)[0]
    return b


def test_every_form_finds_the_same_point():
    want = solution()
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    auto = precond.least_squares(torch_residual, start)
    named = precond.least_squares(
        lambda d: torch_residual(torch.stack([d["a"], d["k"]])), {"a": start[0], "k": start[1]}
    )
    own = precond.least_squares(numpy_residual, [1, 1], jac=numpy_jac)
    differences = precond.least_squares(numpy_residual, np.ones(2))
    looped = precond.least_squares(lambda b: torch_residual(b) * (1.0 if float(b[0]) > -99 else 2.0), start)
    for result in (auto, named, own, differences, looped):
        assert result.status is Status.CONVERGED_GRADIENT, result.message
        assert result.certificate.value <= 1e-8 == result.certificate.bound
    np.testing.assert_allclose(auto.x.numpy(), want, rtol=1e-9)
    np.testing.assert_allclose([named.x["a"], named.x["k"]], want, rtol=1e-9)
    np.testing.assert_allclose(own.x, want, rtol=1e-9)
    np.testing.assert_allclose(differences.x, want, rtol=1e-8)
    np.testing.assert_allclose(looped.x.numpy(), want, rtol=1e-9)
    assert isinstance(own.x, np.ndarray)
    assert auto.iterations == own.iterations
    assert torch.equal(start, torch.ones(2, dtype=torch.float64))


def test_work_is_what_the_functions_saw():
    calls = {"r": 0, "j": 0}

    def counted(b):
        calls["r"] += 1
        return numpy_residual(b)

    def counted_jac(b):
        calls["j"] += 1
        return numpy_jac(b)

    result = precond.least_squares(counted, np.ones(2), jac=counted_jac)
    certificate = 1  # at the result, uncounted
    assert (result.work.losses + certificate, result.work.jacobians + certificate) == (calls["r"], calls["j"])
    calls["r"] = 0
    result = precond.least_squares(counted, np.ones(2))
    assert calls["r"] == result.work.losses + 1


def test_more_variables_than_residuals_and_chunks(monkeypatch):
    import precond.solvers.squares.jacobians as module

    def wide(x):
        return torch.stack([x.sum() - 1, (x**2).sum() - 2])

    x0 = torch.linspace(0.1, 0.9, 7).double()
    plain = precond.least_squares(wide, x0)
    monkeypatch.setattr(module, "MEMORY", 100)
    assert torch.equal(precond.least_squares(wide, x0).x, plain.x)
    fit = precond.least_squares(torch_residual, torch.ones(2).double())
    np.testing.assert_allclose(fit.x.numpy(), solution(), rtol=1e-9)
    assert plain.status is Status.CONVERGED_RESIDUAL
    assert float(wide(plain.x).norm()) < 1e-9


def test_singular_jacobian_at_the_solution():
    """Powell's singular function: the rate is linear, the certificate still comes."""

    def powell(x):
        return torch.stack(
            [x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2]
        )

    result = precond.least_squares(powell, torch.tensor([3.0, -1.0, 0.0, 1.0]).double())
    assert result.converged, result.message
    assert float(powell(result.x).norm()) < 1e-12


def test_zero_residual_at_the_start_and_no_variables():
    at_rest = precond.least_squares(lambda x: x - 1, torch.ones(3).double())
    assert at_rest.converged
    assert at_rest.iterations == 0
    empty = precond.least_squares(lambda x: x.sum() + torch.ones(4).double(), torch.zeros(0).double())
    assert empty.converged
    assert empty.x.shape == (0,)


@pytest.mark.parametrize("form", ["torch", "differences"])
def test_a_variable_that_lost_its_influence_is_no_success(form):
    """BoxBOD's trap: for large b the exponential underflows, and the column that is left is orthogonal to r."""
    x = np.array([1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
    y = np.array([109.0, 149.0, 149.0, 191.0, 213.0, 224.0])
    if form == "torch":
        result = precond.least_squares(
            lambda b: b[0] * (1 - (-b[1] * torch.from_numpy(x)).exp()) - torch.from_numpy(y),
            torch.from_numpy(np.array([1.0, 1.0])), method="levenberg-marquardt", max_iterations=40,
        )  # fmt: skip
    else:
        with np.errstate(over="ignore"):
            result = precond.least_squares(
                lambda b: b[0] * (1 - np.exp(-b[1] * x)) - y, np.array([1.0, 1.0]), method="levenberg-marquardt"
            )
    loss = ((np.asarray(result.x)[0] * (1 - np.exp(-np.asarray(result.x)[1] * x)) - y) ** 2).sum()
    assert loss > 2000, "the run was to end in the trap"
    assert not result.converged


def test_auto_leaves_the_trap():
    x = np.array([1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
    y = np.array([109.0, 149.0, 149.0, 191.0, 213.0, 224.0])
    with np.errstate(over="ignore"):
        result = precond.least_squares(lambda b: b[0] * (1 - np.exp(-b[1] * x)) - y, np.array([1.0, 1.0]))
    assert result.converged
    np.testing.assert_allclose(result.x, [2.1380940889e2, 5.4723748542e-1], rtol=1e-8)


def test_auto_goes_on_where_a_method_ends_without_a_certificate():
    """A peak of which the start knows nothing: the first method follows its tail until the amplitude vanishes."""
    u = np.linspace(-3, 3, 80)

    def residual(p):
        return p[0] * np.exp(-((u - p[1]) ** 2) / (2 * p[2] ** 2)) - 2 * np.exp(-((u - 0.5) ** 2) / 0.5)

    alone = precond.least_squares(residual, [1.0, 2.5, 0.3], method="trust-region-lm")
    result = precond.least_squares(residual, [1.0, 2.5, 0.3])
    assert not alone.converged
    assert result.converged
    assert "after nl2sol" in result.method
    np.testing.assert_allclose(np.abs(result.x), [2, 0.5, 0.5], rtol=1e-8)


def test_callback_stops_and_sees_the_users_form():
    seen = []
    result = precond.least_squares(
        numpy_residual, np.ones(2), jac=numpy_jac, callback=lambda event: seen.append(event) or len(seen) == 3
    )
    assert result.status is Status.STOPPED_USER
    assert [event.iteration for event in seen] == [0, 1, 2]
    assert isinstance(seen[0].x, np.ndarray)


def test_bad_input():
    start = torch.ones(2).double()
    with pytest.raises(BadInputError, match="NaN"):
        precond.least_squares(torch_residual, start * torch.nan)
    with pytest.raises(BadInputError, match="callable"):
        precond.least_squares(3, start)
    with pytest.raises(BadInputError, match="jac returned shape"):
        precond.least_squares(numpy_residual, np.ones(2), jac=lambda b: np.ones((3, 2)))
    with pytest.raises(BadInputError, match="NumPy array"):
        precond.least_squares(lambda b: numpy_residual(b.numpy()), start)
    with pytest.raises(BadInputError, match="vector of numbers"):
        precond.least_squares(numpy_residual, "abc")
    with pytest.raises(BadInputError, match="tol"):
        precond.least_squares(torch_residual, start, tol=-1)
    with pytest.raises(IncompatibleError, match="levenberg-marquardt"):
        precond.least_squares(torch_residual, start, method="adamw")
    with pytest.raises(UnknownNameError):
        precond.least_squares(torch_residual, start, method="levenberg")
    with pytest.raises(IncompatibleError, match=r"precond\.least_squares"):
        precond.minimize(lambda x: (x**2).sum(), start, method="levenberg-marquardt")
    result = precond.least_squares(lambda b: torch_residual(b) * torch.nan, start)
    assert result.status is Status.FAILED_NON_FINITE
    assert torch.equal(result.x, start)
