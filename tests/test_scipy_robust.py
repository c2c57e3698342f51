"""``precond.scipy.least_squares`` beside SciPy's: robust losses by their definition, and what both refuse."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize as theirs
import scipy.sparse
import scipy.sparse.linalg

import precond.scipy as ours

T = np.linspace(0, 4, 40)


def cubic(z: np.ndarray) -> np.ndarray:
    t = 1 + z
    return np.stack([3 * (t ** (1 / 3) - 1), t ** (-2 / 3), -2 / 3 * t ** (-5 / 3)])


def shifted(z: np.ndarray) -> np.ndarray:
    return np.stack([np.log1p(z) - 3, 1 / (1 + z), -1 / (1 + z) ** 2])


MODELS = {
    "exponential": (lambda b: b[0] * np.exp(-b[1] * T) + b[2], np.array([2.0, 1.2, 0.3])),
    "line": (lambda b: b[0] + b[1] * T, np.array([1.0, 0.5])),
    "peak": (lambda b: b[0] * np.exp(-((T - b[1]) ** 2) / (2 * b[2] ** 2)), np.array([2.0, 2.0, 0.7])),
}
LOSSES = ["soft_l1", "huber", "cauchy", "arctan", cubic, shifted]


def data(name: str, seed: int) -> tuple:
    """Return residuals with outliers and a start."""
    model, true = MODELS[name]
    rng = np.random.default_rng(seed)
    y = model(true) + 0.05 * rng.standard_normal(len(T))
    y[rng.choice(len(T), 6, replace=False)] += rng.normal(0, 4, 6)
    return lambda b: model(b) - y, true * (1 + 0.2 * rng.standard_normal(len(true)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_what_is_returned_is_what_scipy_defines(name: str, loss: object, scale: float) -> None:
    fun, start = data(name, 1)
    found = ours.least_squares(fun, start, loss=loss, f_scale=scale)
    best = theirs.least_squares(fun, start, loss=loss, f_scale=scale, xtol=1e-13, ftol=1e-13, gtol=1e-12)
    here = theirs.least_squares(fun, found.x, "3-point", loss=loss, f_scale=scale, max_nfev=1)
    assert found.success
    assert found.cost <= best.cost + 1e-6 * abs(best.cost)
    assert found.cost == pytest.approx(here.cost, rel=1e-12)
    np.testing.assert_array_equal(found.fun, here.fun)
    np.testing.assert_allclose(found.jac, here.jac, rtol=1e-5, atol=1e-6 * np.abs(here.jac).max())
    np.testing.assert_allclose(found.grad, here.grad, atol=1e-6 * np.abs(here.jac).sum())


@pytest.mark.parametrize("loss", ["linear", *LOSSES])
@pytest.mark.parametrize("method", ["trf", "dogbox"])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), ([0, 0, 0.5], [3.0, np.inf, 1.0])])
def test_one_evaluation_returns_the_start(loss: object, method: str, bounds: tuple) -> None:
    fun, start = data("peak", 2)
    more = {"loss": loss, "f_scale": 0.3, "method": method, "bounds": bounds, "max_nfev": 1, "jac": "3-point"}
    mine, other = (module.least_squares(fun, start, **more) for module in (ours, theirs))
    assert (mine.status, mine.success) == (other.status, other.success) == (0, False)
    for name in ("x", "cost", "fun", "active_mask"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-12)
    for name in ("jac", "grad", "optimality"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-6, atol=1e-6)


def test_a_loss_that_lets_go_of_outliers_finds_the_lower_minimum() -> None:
    t = np.linspace(-1, 1, 11)
    rng = np.random.default_rng(12220903)
    y = 1 + np.exp(0.1 * t) + 0.1 * rng.standard_normal(11)
    y[rng.integers(0, 11, 1)] += 5 * rng.random(1)

    def fun(b):
        return b[0] + np.exp(b[1] * t) - y

    mine, other = (module.least_squares(fun, np.zeros(2), loss="arctan", f_scale=0.1) for module in (ours, theirs))
    assert mine.cost <= other.cost * (1 + 1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0])
def test_users_losses_keep_their_digits_near_zero(scale: float) -> None:
    y = 1 + 2 * T + scale * 1e-9 * np.sin(7 * T)

    def fun(b):
        return b[0] + b[1] * T - y

    exact = np.linalg.lstsq(np.stack([np.ones_like(T), T], 1), y, rcond=None)[0]
    found = ours.least_squares(fun, [0.0, 0.0], loss=cubic, f_scale=1.0)
    np.testing.assert_allclose(found.x, exact, rtol=1e-12)


def test_differences_stay_within_bounds() -> None:
    outside = []

    def fun(b: np.ndarray) -> np.ndarray:
        outside.append(bool(np.any(b < 0) or np.any(b > [1, 5])))
        return np.array([np.sqrt(max(b[0], 0)) - 2, b[1] - 3, b[0] * b[1]])

    mine, other = (module.least_squares(fun, [0.5, 0.0], "3-point", bounds=(0, [1, 5])) for module in (ours, theirs))
    assert not any(outside)
    np.testing.assert_allclose(mine.x, other.x, atol=1e-5)


def square(x: np.ndarray) -> np.ndarray:
    return x**2 + 5


SPARSE = {"jac": lambda x: scipy.sparse.csr_array(np.diag(2 * x))}
OPERATOR = {"jac": lambda x: scipy.sparse.linalg.aslinearoperator(np.diag(2 * x))}


@pytest.mark.parametrize(
    "more",
    [
        {"bounds": (3.0, 4.0)}, {"bounds": (1.0, 2.0, 3.0)}, {"bounds": (1.0, [2.0, 3.0, 4.0])},
        {"bounds": ([0.0], [3.0, 4.0])}, {"bounds": (10.0, 0.0)},
        {"bounds": ([2, 0], [2, 3])}, {"bounds": (0.0, [2.0, np.nan])},
        {"x0": [1.0, np.inf]},
        {"x_scale": "auto"}, {"x_scale": -1.0}, {"x_scale": [1.0, 1.0, 1.0]}, {"x_scale": [1.0, np.inf]},
        {"max_nfev": 0}, {"max_nfev": -3}, {"loss": "hinge"}, {"loss": "hinge", "max_nfev": 1}, {"jac": "oops"},
        {"loss": lambda z: np.ones((3, 3))}, {"tr_solver": "best"}, {"verbose": 3},
        {"tr_solver": "exact", **SPARSE}, {"tr_solver": "exact", **OPERATOR}, {"x_scale": "jac", **OPERATOR},
        {"ftol": None, "xtol": None, "gtol": None}, {"jac_sparsity": np.ones((1, 2))},
        {"jac_sparsity": np.ones((2, 2)), "tr_solver": "exact"}, {"jac": lambda x: np.ones((3, 2))},
        {"jac": lambda x: np.ones((2, 2, 1))}, {"method": "lm", "loss": "huber"}, {"method": "lm", "bounds": (0, 3)},
        {"method": "lm", "ftol": None}, {"method": "lm", **SPARSE}, {"method": "lm", **OPERATOR},
        {"method": "lm", "jac_sparsity": np.ones((2, 2))}, {"fun": lambda x: x[:1], "method": "lm"},
        {"fun": lambda x: np.array([x, x])}, {"fun": lambda x: x * np.nan}, {"x0": np.ones((2, 1))},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_both_refuse(more: dict) -> None:
    for module in (theirs, ours):
        with pytest.raises(ValueError, match=r".") as caught:
            module.least_squares(**{"fun": square, "x0": np.array([2.0, 1.0]), **more})
    assert len(str(caught.value)) > 20


def test_both_refuse_options_that_lsmr_does_not_have() -> None:
    for module in (theirs, ours):
        with pytest.raises(TypeError, match="tol"):
            module.least_squares(square, [2.0, 1.0], tr_solver="lsmr", tr_options={"tol": 1e-10})
        assert module.least_squares(lambda x: x - 5, [2.0, 1.0], tr_solver="lsmr", tr_options={"btol": 1e-10}).success


def test_calls_are_counted_and_the_last_callback_sees_what_is_returned() -> None:
    calls, slopes, seen = [], [], []
    found = ours.least_squares(
        lambda x: calls.append(1) or square(x), [5.0], lambda x: slopes.append(1) or np.diag(2 * x),
        callback=lambda x: seen.append(x.copy()),
    )  # fmt: skip
    assert (found.nfev, found.njev) == (len(calls), len(slopes))
    assert len(seen) > 2
    np.testing.assert_array_equal(seen[-1], found.x)

    def stop(x: np.ndarray) -> None:
        raise StopIteration

    assert ours.least_squares(square, [5.0], callback=stop).status == -2
