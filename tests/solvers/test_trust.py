"""What a smooth result claims when functions are random, derivatives are wrong, or the user interrupts late."""

import numpy as np
import pytest
import scipy.optimize
import torch

import precond
from precond.core import BadInputError, Status
from precond.penalties import L1
from precond.solvers.repeated import REPEATS, repeated


def random_bowl(size: float, seed: int):
    draws = np.random.default_rng(seed)
    return (
        lambda x: float(((x - 1) ** 2).sum() + size * draws.standard_normal()),
        lambda x: 2 * (x - 1) + size * draws.standard_normal(x.shape),
    )


@pytest.mark.parametrize("method", ["auto", "newton-cg"])
def test_noise_is_certified_by_no_lucky_evaluation(method) -> None:
    said = []
    for seed in range(6):
        fun, jac = random_bowl(1e-6, seed)
        result = precond.minimize(fun, np.zeros(4), jac=jac, method=method)
        said.append(result.note)
        assert not result.converged or (result.certificate.value <= 1e-6 and not result.note)
        assert "smallest curvature" not in result.certificate.extra  # differences of noise are none
    assert any("the function is random: 8 evaluations" in note for note in said)


def test_noise_below_the_tolerance_is_no_obstacle() -> None:
    fun, jac = random_bowl(1e-6, 0)
    result = precond.minimize(fun, np.zeros(4), jac=jac, tol=1e-4)
    assert result.converged
    assert "differ by" in result.note


def test_noise_in_torch_with_a_penalty_and_in_maps() -> None:
    draws = torch.Generator().manual_seed(0)

    def noise(x):
        return 1e-4 * torch.randn(x.shape, generator=draws, dtype=x.dtype)

    start = torch.zeros(4, dtype=torch.float64)
    plain = precond.minimize(lambda x: ((x - 1) ** 2).sum() + noise(x) @ x, start, tol=1e-4, method="lbfgs")
    sparse = precond.minimize(lambda x: ((x - 1) ** 2).sum() + noise(x) @ x, start, penalty=L1(0.1), tol=1e-4)
    point = precond.fixed_point(lambda x: x / 2 + noise(x), start + 1, tol=1e-4, max_iterations=2000)
    for result in (plain, sparse, point):
        assert not result.converged
        assert "random" in result.note


def test_only_functions_that_differ_are_evaluated_again() -> None:
    calls = []

    def again() -> torch.Tensor:
        calls.append(1)
        return torch.full((1, 2), float(len(calls)))

    zero = torch.zeros(1, 2)
    assert repeated(zero, zero.clone(), again, 1.0).spread == 0
    assert not calls
    found = repeated(zero, zero + 1, again, 1.0)
    assert len(calls) == REPEATS - 1
    assert found.norm == pytest.approx(2**0.5 * (REPEATS - 1)) == found.spread
    assert repeated(zero, zero + 1, lambda: zero, 1.0).spread == 0  # another path, whose rounding the run has seen


def test_a_wrong_entry_that_vanishes_at_a_wrong_point_is_named() -> None:
    def jac(x):
        return 2 * (x - 1) + np.array([0.0, 0.1, 0.0])

    result = precond.minimize(lambda x: float(((x - 1) ** 2).sum()), np.zeros(3), jac=jac)
    assert result.status is Status.FAILED_GRADIENT
    assert "entry [1]" in result.note
    assert "relative error 1.0e+00" in result.note


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_right_gradients_raise_no_suspicion(scale) -> None:
    for n in (1, 2, 9):
        x0 = np.linspace(-1.2, 0.5, n) if n > 1 else np.array([2.0])
        fun, jac = (scipy.optimize.rosen, scipy.optimize.rosen_der) if n > 1 else (lambda x: x @ x, lambda x: 2 * x)
        result = precond.minimize(
            lambda x, fun=fun: scale * float(fun(x)) + 1e3, x0, jac=lambda x, jac=jac: scale * jac(x), tol=1e-5 * scale
        )
        assert result.converged
        assert not result.note


def test_an_interrupt_while_the_result_is_certified_keeps_the_point() -> None:
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == armed:
            raise KeyboardInterrupt
        return ((x - 1) ** 2).sum()

    armed = 0
    precond.minimize(fun, torch.zeros(3).double(), method="lbfgs", max_iterations=1)
    armed, total = len(calls), len(calls)
    calls.clear()
    result = precond.minimize(fun, torch.zeros(3).double(), method="lbfgs", max_iterations=1)
    assert len(calls) == total
    assert result.status is Status.STOPPED_INTERRUPT
    assert not result.certificate.holds
    assert "not recomputed" in result.message


def test_signs_have_zeros_without_memory_as_derivatives() -> None:
    result = precond.minimize(lambda x: x.abs().sum() + (x - 0.1).abs().sum(), torch.full((3,), 2.0).double())
    assert result.converged
    assert bool(((result.x >= 0) & (result.x <= 0.1)).all())


def test_functions_that_write_to_their_argument() -> None:
    def in_place(x):
        x -= 1
        return (x**2).sum()

    with pytest.raises(BadInputError, match="begin with x = x"):
        precond.minimize(in_place, torch.zeros(3).double())
    result = precond.minimize(lambda x: float(in_place(x)), np.zeros(3), jac=lambda x: 2 * (x - 1))
    assert result.converged
    assert np.allclose(result.x, 1)


@pytest.mark.parametrize(
    ("fun", "jac", "says"),
    [
        (lambda x: 1.0, lambda x: None, "jac returned NoneType"),
        (lambda x: None, lambda x: x, "fun returned NoneType"),
        (lambda x: 1.0, True, "with jac=True"),
    ],
)
def test_returned_things_that_are_no_numbers_are_named(fun, jac, says) -> None:
    with pytest.raises(BadInputError, match=says):
        precond.minimize(fun, np.ones(3), jac=jac)


def test_numbers_of_numpy_are_numbers_and_callbacks_are_called() -> None:
    fun, start = (lambda x: (x**2).sum()), torch.ones(2).double()
    assert precond.minimize(fun, start, tol=np.float32(1e-5), max_iterations=np.int64(9)).converged
    with pytest.raises(BadInputError, match="callback must be callable"):
        precond.minimize(fun, start, callback=3)
    with pytest.raises(BadInputError, match="inference_mode"), torch.inference_mode():
        precond.minimize(fun, start)


def test_a_narrow_valley_takes_as_many_gradients_as_exact_newton_steps() -> None:
    def fun(x):
        return (100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2).sum()

    for n in (2, 20):
        start = torch.tensor([-1.2, 1.0] * (n // 2), dtype=torch.float64)
        result, exact = (precond.minimize(fun, start, method=method) for method in ("auto", "newton"))
        assert result.converged
        assert exact.converged
        assert result.work.gradients <= 2 * exact.work.gradients
        assert result.work.hvps <= 2 * exact.work.hvps


def test_a_value_of_zero_by_chance_does_not_make_rounding_of_cancelling_terms_count():
    """The value at the minimum is zero, of terms up to four that cancel: what is left of them refused every step."""

    def fun(x):
        return float(((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3).sum())

    def jac(x):
        inner = 4 * (x[:-1] ** 2 + x[-1] ** 2)
        return np.append(inner * x[:-1] - 4, (inner * x[-1]).sum())

    def hessp(x, p):
        inner = 4 * (x[:-1] ** 2 + x[-1] ** 2)
        along = 8 * (x[:-1] * p[:-1] + x[-1] * p[-1])
        return np.append(inner * p[:-1] + along * x[:-1], (inner * p[-1] + along * x[-1]).sum())

    result = precond.minimize(fun, np.ones(5000), jac=jac, hessp=hessp)
    assert result.converged
    assert result.work.gradients < 100
