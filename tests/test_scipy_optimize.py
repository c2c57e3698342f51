"""``precond.scipy.minimize`` and ``least_squares`` beside ``scipy.optimize`` on the same inputs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import scipy.optimize as theirs
import scipy.sparse
import scipy.sparse.linalg

import precond.scipy as ours
from precond.core import BadInputError, IncompatibleError, UnknownNameError

START = np.array([-1.2, 1.0, 0.7])


@pytest.mark.parametrize("name", ["minimize", "least_squares"])
def test_the_arguments_are_named_as_scipys(name: str) -> None:
    mine, other = (list(inspect.signature(getattr(module, name)).parameters) for module in (ours, theirs))
    assert [each for each in mine if each != "tol" or name == "minimize"] == other


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"jac": theirs.rosen_der},
        {"jac": theirs.rosen_der, "hess": theirs.rosen_hess},
        {"jac": theirs.rosen_der, "hessp": theirs.rosen_hess_prod},
        {"jac": theirs.rosen_der, "method": "lbfgs"},
    ],
)
def test_minimizes_as_scipy_does(more: dict) -> None:
    found = ours.minimize(theirs.rosen, START, tol=1e-6, **more)
    assert isinstance(found, theirs.OptimizeResult)
    assert found.success
    assert found.status == 0
    np.testing.assert_allclose(found.x, np.ones(3), atol=1e-5)
    assert np.linalg.norm(theirs.rosen_der(found.x)) < 1.1e-6
    assert found.fun == pytest.approx(theirs.rosen(found.x))
    assert found.nit > 0
    assert found.nfev > 0


def test_values_and_gradients_from_one_function_with_arguments() -> None:
    def both(x: np.ndarray, a: float) -> tuple[float, np.ndarray]:
        return float(a * x @ x), 2 * a * x

    found = ours.minimize(both, START, args=(3.0,), jac=True)
    assert found.success
    np.testing.assert_allclose(found.x, 0, atol=1e-6)


@pytest.mark.parametrize(
    "constraints",
    [
        {"type": "eq", "fun": lambda x: x.sum() - 1},
        [{"type": "ineq", "fun": lambda x: x.sum() - 1}],
        theirs.LinearConstraint(np.ones((1, 3)), 1, 1),
        theirs.NonlinearConstraint(lambda x: x.sum(), 1, np.inf),
    ],
)  # fmt: skip
def test_constraints_and_bounds(constraints: object) -> None:
    found = ours.minimize(lambda x: x @ x, START, constraints=constraints, bounds=theirs.Bounds(-5, 5), tol=1e-6)
    assert found.success, found.message
    np.testing.assert_allclose(found.x, np.full(3, 1 / 3), atol=1e-5)


@pytest.mark.parametrize("start", [np.array([2, -1]), [2, -1], (2.0, -1), np.array([2, -1], dtype=np.int32)])
@pytest.mark.parametrize(
    "more", [{}, {"bounds": [(0, 1), (None, 1)]}, {"constraints": theirs.LinearConstraint([[1, 1]], 1, 1)}]
)
@pytest.mark.filterwarnings("error")
def test_starts_of_integers_are_taken_as_floats(start: object, more: dict) -> None:
    kinds = set()

    def fun(x: np.ndarray) -> float:
        kinds.add(x.dtype)
        return float(theirs.rosen(x))

    found = ours.minimize(fun, start, jac=theirs.rosen_der, **more)
    other = theirs.minimize(theirs.rosen, start, jac=theirs.rosen_der, **more)
    assert found.success
    assert kinds == {np.dtype(np.float64)}
    np.testing.assert_allclose(found.x, other.x, atol=1e-3)


def test_callbacks_of_both_kinds_stop() -> None:
    seen: list[np.ndarray] = []

    def old(x: np.ndarray) -> bool:
        seen.append(x)
        return len(seen) == 2

    def new(intermediate_result: theirs.OptimizeResult) -> None:
        seen.append(intermediate_result.x)
        raise StopIteration

    assert ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, callback=old).nit == 2
    seen.clear()
    stopped = ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, callback=new)
    assert (stopped.nit, stopped.status, stopped.success) == (1, 1, False)


def test_success_is_never_claimed_without_a_certificate() -> None:
    cut = ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, options={"maxiter": 2})
    assert not cut.success
    assert np.linalg.norm(theirs.rosen_der(cut.x)) > 1e-6


def test_what_is_not_taken_is_refused() -> None:
    with pytest.warns(theirs.OptimizeWarning, match="without effect here: maxcor"):
        found = ours.minimize(theirs.rosen, START, options={"gtol": 1e-9, "maxcor": 3}, jac=theirs.rosen_der)
    assert np.linalg.norm(theirs.rosen_der(found.x)) <= 1e-9
    with pytest.raises(UnknownNameError, match="newton-cg"):
        ours.minimize(theirs.rosen, START, method="newton-gc")
    with pytest.raises(ValueError, match="no-such"):  # as SciPy raises
        ours.minimize(theirs.rosen, START, method="no-such")
    with pytest.raises(IncompatibleError, match="uses no derivatives"):
        ours.minimize(theirs.rosen, START, method="Nelder-Mead")
    with pytest.raises(BadInputError, match="'huber'"):
        ours.least_squares(lambda x: x, START, loss="hubert")
    with pytest.raises(BadInputError, match="f_scale"):
        ours.least_squares(lambda x: x, START, loss="huber", f_scale=0.0)
    with pytest.raises(BadInputError, match="one vector"):
        ours.minimize(theirs.rosen, np.ones((2, 2)), jac=theirs.rosen_der)


@pytest.mark.parametrize(
    "method", ["BFGS", "L-BFGS-B", "CG", "Newton-CG", "TNC", "trust-ncg", "trust-krylov", "trust-exact", "dogleg"]
)
def test_names_of_scipy_stand_for_the_nearest_methods(method: str) -> None:
    found = ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, hess=theirs.rosen_hess, method=method)
    assert found.success
    np.testing.assert_allclose(found.x, 1, atol=1e-4)


def test_fits_within_bounds() -> None:
    def fun(b):
        return np.array([b[0] - 2, b[1] + 1, b[0] * b[1]])

    for bounds in [(0, 1), ([0, -0.5], [1.5, np.inf])]:
        mine, other = (module.least_squares(fun, [0.5, 0.5], bounds=bounds) for module in (ours, theirs))
        assert mine.success
        np.testing.assert_allclose(mine.x, other.x, atol=1e-5)


@pytest.mark.parametrize(
    "jac", ["2-point", lambda b, t, y: np.stack([np.exp(b[1] * t), b[0] * t * np.exp(b[1] * t)], 1)]
)
def test_fits_as_scipy_does(jac: object) -> None:
    t = np.linspace(0, 1, 20)
    y = 2 * np.exp(-1.3 * t) + 0.01 * np.sin(40 * t)

    def residual(b, t, y):
        return b[0] * np.exp(b[1] * t) - y

    mine = ours.least_squares(residual, [1.0, 0.0], jac=jac, args=(t, y))
    other = theirs.least_squares(residual, [1.0, 0.0], args=(t, y), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert mine.success
    np.testing.assert_allclose(mine.x, other.x, rtol=1e-6)
    assert mine.cost == pytest.approx(other.cost)
    np.testing.assert_allclose(mine.fun, residual(mine.x, t, y))
    assert mine.jac.shape == (20, 2)


def outliers() -> tuple:
    t = np.linspace(0, 5, 60)
    y = 3 * np.exp(-0.7 * t) + 0.5 + 0.05 * np.sin(50 * t)
    y[::9] += 3
    return (
        lambda b: b[0] * np.exp(-b[1] * t) + b[2] - y,
        lambda b: np.stack([np.exp(-b[1] * t), -b[0] * t * np.exp(-b[1] * t), np.ones_like(t)], 1),
    )


@pytest.mark.parametrize(
    "loss",
    ["soft_l1", "huber", "cauchy", "arctan", lambda z: np.stack([np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2])],
)
@pytest.mark.parametrize("given", [True, False])
def test_robust_losses_are_scipys(loss: object, given: bool) -> None:
    residual, jacobian = outliers()
    more = {"loss": loss, "f_scale": 1.0, **({"jac": jacobian} if given else {})}
    mine = ours.least_squares(residual, [1.0, 1.0, 0.0], **more)
    other = theirs.least_squares(residual, [1.0, 1.0, 0.0], xtol=1e-14, ftol=1e-14, gtol=1e-14, **more)
    assert mine.success
    np.testing.assert_allclose(mine.x, other.x, rtol=1e-5)
    assert mine.cost == pytest.approx(other.cost)
    np.testing.assert_allclose(mine.fun, residual(mine.x))
    np.testing.assert_allclose(mine.grad, 0, atol=1e-6)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.linalg.aslinearoperator])
@pytest.mark.parametrize("loss", ["linear", "soft_l1"])
def test_jacobians_in_every_form_of_scipy(form: object, loss: str) -> None:
    residual, jacobian = outliers()
    seen = []
    found = ours.least_squares(
        residual, [1.0, 1.0, 0.0], lambda b: form(jacobian(b)), loss=loss,
        callback=lambda intermediate_result: seen.append(intermediate_result.x),
    )  # fmt: skip
    dense = ours.least_squares(residual, [1.0, 1.0, 0.0], jacobian, loss=loss)
    assert found.success
    assert len(seen) > 1
    np.testing.assert_allclose(found.x, dense.x, rtol=1e-6)
    np.testing.assert_allclose(found.jac.toarray() if scipy.sparse.issparse(found.jac) else found.jac, dense.jac, 1e-5)


def test_the_mask_of_bounds_that_hold() -> None:
    found = ours.least_squares(lambda b: np.array([b[0] - 2, b[1] + 1, b[2] - 0.5]), [0.5] * 3, bounds=(0, 1))
    assert found.active_mask.tolist() == [1, -1, 0]


def test_callbacks_with_a_state() -> None:
    seen = []
    found = ours.minimize(
        theirs.rosen, START, jac=theirs.rosen_der, method="trust-constr",
        callback=lambda xk, state: seen.append(state.nit) or state.nit == 3,
    )  # fmt: skip
    assert seen == [1, 2, 3]
    assert not found.success


def test_what_is_left_under_constraints_has_the_names_of_trust_constr() -> None:
    limit = {"type": "eq", "fun": lambda x: x @ x - 1, "jac": lambda x: 2 * x}
    found = ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, method="trust-constr", constraints=limit)
    assert found.success
    assert found.constr_violation == pytest.approx(abs(found.x @ found.x - 1), abs=1e-12)
    assert 0 <= found.optimality <= 1e-6
    assert "constr_violation" not in ours.minimize(theirs.rosen, START, jac=theirs.rosen_der)


def test_arguments_that_scipy_refuses_are_refused() -> None:
    def square(x):
        return x**2 + 5

    with pytest.raises(BadInputError, match="x0 is complex"):
        ours.least_squares(square, 2.0 + 1j)
    with pytest.raises(BadInputError, match="x0 is complex"):
        ours.minimize(lambda x: float(x @ x), [2.0 + 0j])
    with pytest.raises(BadInputError, match="jac must be a function or one of 2-point"):
        ours.least_squares(square, 2.0, jac="4-point")
    with pytest.raises(BadInputError, match="jac must be a function or one of 2-point"):
        ours.minimize(lambda x: float(x @ x), [2.0], jac="4-point")
    with pytest.raises(BadInputError, match="of 2 each"):
        ours.least_squares(square, [1.0, 2.0], bounds=([0, 0, 0], [3, 3, 3]))
    assert ours.least_squares(lambda x: x - 5, [1.0, 2.0], jac="3-point").success


def test_trust_constr_has_its_own_numbers_and_callbacks_of_two_arguments() -> None:
    limit = theirs.LinearConstraint([[1, 1, 1]], 1, 1)
    more = {"jac": theirs.rosen_der, "method": "trust-constr", "constraints": limit}
    mine, other = (module.minimize(theirs.rosen, START, **more) for module in (ours, theirs))
    assert mine.success
    assert other.success
    assert mine.status in (1, 2)
    assert mine.optimality <= 1e-8
    free = ours.minimize(theirs.rosen, START, jac=theirs.rosen_der, method="trust-constr")
    assert free.optimality == np.abs(theirs.rosen_der(free.x)).max()
    for steps, expected in ((1, 0), (None, 3)):
        stop = {"options": {"maxiter": 1}} if steps else {"callback": lambda xk, info: info["niter"] == 2}
        mine, other = (module.minimize(theirs.rosen, START, **more, **stop) for module in (ours, theirs))
        assert mine.status == other.status == expected
        assert mine.niter == mine.nit


def test_hessians_that_are_numbers_and_differences_of_differences() -> None:
    for module in (ours, theirs):
        found = module.minimize(
            lambda x: (x[0] - 3) ** 2, [0.0], jac=lambda x: 2 * (x - 3), hess=lambda x: 2.0, method="trust-constr"
        )
        assert found.x[0] == pytest.approx(3, abs=1e-6)
        with pytest.raises(ValueError, match="differences"):
            module.minimize(theirs.rosen, START, method="trust-constr", jac="2-point", hess="2-point")


@pytest.mark.parametrize("bounds", [[(0.4, 0.4), (None, None)], [(0.1, 0.1), (0.2, 0.2)], [(2, 3), (-3, -2)]])
def test_differences_where_bounds_fix_variables_or_exclude_the_start(bounds: object) -> None:
    mine, other = (module.minimize(theirs.rosen, [0.5, 0.0], bounds=bounds) for module in (ours, theirs))
    assert mine.success, mine.message
    assert mine.fun == pytest.approx(other.fun, rel=1e-6)
    np.testing.assert_allclose(mine.x, other.x, rtol=1e-5)


@pytest.mark.parametrize("bounds", [theirs.Bounds(-1, [0.5, 1.0]), [(-1, 0.5), (None, 1.0)]])
def test_differences_of_the_objective_stay_within_bounds(bounds: object) -> None:
    def fun(x: np.ndarray) -> float:
        assert x[0] <= 0.5
        assert x[1] <= 1.0
        return float(theirs.rosen(x))

    mine, other = (module.minimize(fun, [0.5, 1.0], bounds=bounds) for module in (ours, theirs))
    np.testing.assert_allclose(mine.x, other.x, atol=1e-4)


@pytest.mark.parametrize(("limit", "most"), [(2.5, 3), (float("inf"), 10_000)])
def test_limits_need_not_be_whole(limit, most):
    result = ours.minimize(theirs.rosen, [-1.2, 1.0], jac=theirs.rosen_der, options={"maxiter": limit})
    assert result.nit <= most
    assert result.success == (most > 100)
