"""``precond.fixed_point``: convergence is recomputed, infeasibility is proven from the program or not claimed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status
from precond.splittings import ADMM, PDHG, ConvexProgram, DouglasRachford

INF = np.inf
M, N = 8, 16
RNG = np.random.default_rng(0)
EQUATIONS = RNG.normal(size=(M, N))
COST = RNG.random(N)
RIGHT = EQUATIONS @ np.abs(RNG.normal(size=N))


def linear(equations: np.ndarray, right: np.ndarray, cost: np.ndarray = COST, P=None) -> ConvexProgram:
    """Return ``min cost' x`` subject to ``equations x = right``, ``x >= 0``."""
    n = equations.shape[1]
    rows = scipy.sparse.csr_array(np.vstack([equations, np.eye(n)]))
    return ConvexProgram(P, cost, rows, np.append(right, np.zeros(n)), np.append(right, np.full(n, INF)))


def impossible() -> ConvexProgram:
    positive = np.abs(RNG.normal(size=N))
    return linear(np.vstack([EQUATIONS, positive]), np.append(RIGHT, -1.0))


def check_farkas(program: ConvexProgram, y: np.ndarray) -> None:
    """Verify the proof in plain NumPy: no ``x`` can satisfy ``y' A x <= upper' y+ + lower' y-``."""
    matrix, lower, upper = program.A.toarray(), program.lower.numpy(), program.upper.numpy()
    support = sum(u * v if v > 0 else low * v for u, low, v in zip(upper, lower, y, strict=True) if v != 0)
    assert support < 0
    assert np.linalg.norm(matrix.T @ y) <= 1e-9 * -support


@pytest.mark.parametrize("splitting", [ADMM, PDHG])
def test_linear_programs_agree_with_scipy(splitting) -> None:
    program = linear(EQUATIONS, RIGHT)
    result = precond.fixed_point(splitting(program), tol=1e-9)
    expected = scipy.optimize.linprog(COST, A_eq=EQUATIONS, b_eq=RIGHT)
    assert result.status is Status.CONVERGED_FIXED_POINT
    assert result.certificate.value <= 1e-9
    left = program.residuals(result.x["x"], result.x["y"])
    assert max(left[name] for name in ("feasibility", "stationarity", "complementarity")) < 1e-6
    assert left["objective"] == pytest.approx(expected.fun, rel=1e-6)


def test_quadratic_programs() -> None:
    root = RNG.normal(size=(5, N))
    program = linear(EQUATIONS, RIGHT, -COST, root.T @ root)
    result = precond.fixed_point(ADMM(program), tol=1e-9)
    assert result.converged
    left = program.residuals(result.x["x"], result.x["y"])
    assert max(left[name] for name in ("feasibility", "stationarity", "complementarity")) < 1e-6
    with pytest.raises(IncompatibleError, match="ADMM"):
        PDHG(program)


@pytest.mark.parametrize("method", ["auto", "picard", "halpern", "anderson"])
@pytest.mark.parametrize("splitting", [ADMM, PDHG])
def test_infeasible_programs_are_proven_so(splitting, method: str) -> None:
    program = impossible()
    result = precond.fixed_point(splitting(program), method=method, max_iterations=5000)
    assert result.status is Status.PROVEN_INFEASIBLE
    assert not result.converged
    assert result.certificate.holds
    assert "relax" in result.message
    check_farkas(program, result.multipliers)


@pytest.mark.parametrize("splitting", [ADMM, PDHG])
def test_unbounded_programs_are_proven_so(splitting) -> None:
    program = linear(EQUATIONS[:3], RIGHT[:3], -COST)
    assert scipy.optimize.linprog(-COST, A_eq=EQUATIONS[:3], b_eq=RIGHT[:3]).status == 3
    result = precond.fixed_point(splitting(program), max_iterations=20_000)
    assert result.status is Status.PROVEN_UNBOUNDED
    direction = result.multipliers
    assert -COST @ direction < 0
    np.testing.assert_allclose(EQUATIONS[:3] @ direction, 0, atol=1e-8)
    assert direction.min() >= -1e-9


@pytest.mark.parametrize("seed", range(5))
def test_feasible_programs_are_never_called_infeasible(seed: int) -> None:
    """Awkward ones: far solutions, tight bounds, repeated rows; stopped early, so that nothing has converged yet."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(6, 9)) * 10.0 ** rng.integers(-3, 4, size=(6, 1))
    a = np.vstack([a, a[0], a[1] + a[2]])
    x = rng.normal(size=9) * 10.0 ** rng.integers(0, 4)
    lower = a @ x - 10.0 ** rng.integers(-8, 2, size=8)
    program = ConvexProgram(None, np.zeros(9), a, lower, a @ x)
    for splitting in (ADMM(program), PDHG(program)):
        for method in ("auto", "halpern"):
            result = precond.fixed_point(splitting, method=method, max_iterations=200)
            assert result.status.group in ("converged", "stopped")


def test_douglas_rachford_on_feasibility() -> None:
    found = precond.fixed_point(DouglasRachford(EQUATIONS, RIGHT), tol=1e-10)
    assert found.converged
    assert float(found.x.min()) >= 0
    np.testing.assert_allclose(EQUATIONS @ found.x.numpy(), RIGHT, atol=1e-6)
    positive = np.abs(RNG.normal(size=N))
    equations, right = np.vstack([EQUATIONS, positive]), np.append(RIGHT, -1.0)
    proven = precond.fixed_point(DouglasRachford(equations, right))
    assert proven.status is Status.PROVEN_INFEASIBLE
    y = proven.multipliers[: M + 1]
    assert right @ y < 0
    assert (equations.T @ y).min() >= -1e-9


def test_a_bare_map_is_never_called_infeasible() -> None:
    for method in ("auto", "picard", "halpern", "anderson"):
        result = precond.fixed_point(lambda x: x + 1, np.zeros(3), method=method, max_iterations=300)
        assert result.status is Status.STOPPED_STEPS
        assert result.certificate.value == pytest.approx(3**0.5)


def test_forms_of_a_map() -> None:
    assert precond.fixed_point(np.cos, np.ones(1)).x[0] == pytest.approx(0.7390851332151607)
    assert isinstance(precond.fixed_point(np.cos, [1.0]).x, np.ndarray)
    by_name = precond.fixed_point(lambda d: {"a": d["a"] / 2 + 1}, {"a": torch.zeros(2, 2)}, tol=1e-5)
    torch.testing.assert_close(by_name.x["a"], torch.full((2, 2), 2.0), atol=1e-4, rtol=0)
    assert precond.fixed_point(lambda x: x, np.zeros(0)).converged


def test_edges() -> None:
    assert precond.fixed_point(lambda x: x * np.nan, np.ones(2)).status is Status.FAILED_NON_FINITE
    stopped = precond.fixed_point(np.cos, np.ones(1), callback=lambda event: event.iteration == 2)
    assert stopped.status is Status.STOPPED_USER
    assert stopped.iterations == 2

    def interrupt(x: np.ndarray) -> np.ndarray:
        if x[0] < 0.8:
            raise KeyboardInterrupt
        return np.cos(x)

    with pytest.raises(KeyboardInterrupt):  # the certificate asks the map once more, and is interrupted, too
        precond.fixed_point(interrupt, np.full(1, 0.7))
    for call in (
        lambda: precond.fixed_point(lambda x: x[:1], np.zeros(3)),
        lambda: precond.fixed_point(lambda x: x, None),
        lambda: precond.fixed_point("map", np.zeros(3)),
        lambda: precond.fixed_point(lambda x: x, np.array([np.nan])),
        lambda: precond.fixed_point(lambda x: x, np.zeros(2), tol=-1.0),
        lambda: precond.fixed_point(lambda x: x, np.zeros(2), method="lbfgs"),
        lambda: ConvexProgram(None, [0.0], [[1.0]], [2.0], [1.0]),
        lambda: ConvexProgram(None, [0.0], [[1.0]], [INF], [INF]),
        lambda: ConvexProgram(None, [0.0, 1.0], [[1.0]], [0.0], [1.0]),
        lambda: ConvexProgram([[1.0, 2.0], [0.0, 1.0]], [0.0, 1.0], np.eye(2), [0.0] * 2, [1.0] * 2),
        lambda: ADMM(linear(EQUATIONS, RIGHT), rho=0.0),
    ):
        with pytest.raises((BadInputError, IncompatibleError)):
            call()


def test_points_that_move_little_must_solve_the_program() -> None:
    """Where rows have size 1000 the steps of ADMM are shorter than the tolerance, far from all solutions."""
    rows = 1e3 * np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    lower, upper = 1e3 * np.array([1.0, -np.inf, 0.0]), 1e3 * np.array([np.inf, 1.001, np.inf])
    splitting = ADMM(ConvexProgram(None, [1.0, 1.0], rows, lower, upper))
    result = precond.fixed_point(splitting, method="anderson", max_iterations=200)
    assert result.certificate.value <= result.certificate.bound
    assert result.certificate.extra["shortfall"] > 1.0
    assert not result.converged
    assert "does not solve the program" in result.note
    slow = precond.fixed_point(splitting, method="picard", max_iterations=2000)
    assert slow.converged
    assert slow.certificate.extra["shortfall"] < 1e-8


def test_a_face_of_solutions_is_reached_by_the_map_alone() -> None:
    """All of ``x = (t, -t)``, ``1 <= t <= 1.001`` are minima: acceleration alone does not settle on one."""
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    program = ConvexProgram(None, [1.0, 1.0], rows, np.array([1.0, -INF, 0.0]), np.array([INF, 1.001, INF]))
    result = precond.fixed_point(ADMM(program), max_iterations=6000)
    assert result.converged
    assert not precond.fixed_point(ADMM(program), method="anderson", max_iterations=6000).converged
