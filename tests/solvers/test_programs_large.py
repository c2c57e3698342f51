"""Large programs: sparsity found by products, sparse and projected Newton systems, curvature along constraints."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, Status
from precond.krylov.dense import Dense
from precond.math.sparse.patterns import colored, find_pattern
from precond.operators.compressed import Compressor
from precond.operators.function import FunctionOperator
from precond.problems import elliptic_control
from precond.problems.classical import ALL
from precond.programs.directions import Iterated
from precond.programs.newton import SparseNewton
from precond.programs.projected import ProjectedNewton
from precond.programs.regularized import Regularizer
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.programs import adasketch_newton
from precond.solvers.programs.curvature import _definite

F64 = torch.float64


def operator_of(matrix: np.ndarray, *, symmetric: bool = False) -> FunctionOperator:
    dense = torch.from_numpy(matrix)
    return FunctionOperator(
        lambda v: v @ dense.mT, matrix.shape, rmatvec=lambda v: v @ dense, symmetric=symmetric or None
    )


def sparse_matrix(m: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.zeros((m, n))
    for row in range(m):
        matrix[row, rng.choice(n, 3, replace=False)] = rng.normal(size=3)
    return matrix


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (150, 130), (70, 300)])
@pytest.mark.parametrize("full", [0, 2])
def test_patterns_hold_every_entry(shape: tuple[int, int], full: int) -> None:
    matrix = sparse_matrix(*shape, seed=1) if min(shape) >= 3 else np.ones(shape)
    matrix[:full] = 1.0
    found = find_pattern(lambda v: v @ matrix.T, shape)
    assert found is not None
    inside = found.rows.toarray() != 0
    inside[found.full] = True
    assert bool(inside[matrix != 0].all())
    for color in range(found.count):
        assert int(found.rows.toarray()[:, found.colors == color].sum(1).max(initial=0)) <= 1


def test_a_dense_matrix_is_given_up_early() -> None:
    asked = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(v)
        return v @ np.ones((500, 500))

    assert find_pattern(product, (500, 500)) is None
    assert asked <= 130


def test_banded_matrices_take_as_many_colors_as_diagonals() -> None:
    ones = [np.ones(99), np.ones(100), np.ones(99)]
    band = scipy.sparse.csr_array(scipy.sparse.diags_array(ones, offsets=[-1, 0, 1]))
    assert colored(band).max() == 2


@pytest.mark.parametrize("symmetric", [False, True])
def test_entries_are_recovered_and_the_pattern_widens(symmetric: bool) -> None:
    matrix = sparse_matrix(300, 300, 2)
    matrix[5] = 1.0  # a full row
    matrix = matrix + matrix.T if symmetric else matrix
    compressor = Compressor(symmetric)
    assert compressor.learn(operator_of(matrix, symmetric=symmetric))
    recovered = compressor.recover(operator_of(matrix, symmetric=symmetric)).entries()
    np.testing.assert_allclose(recovered.toarray(), matrix, atol=1e-12)
    matrix[100, 200] += 3.0
    if symmetric:
        matrix[200, 100] += 3.0
    wider = compressor.recover(operator_of(matrix, symmetric=symmetric)).entries()
    np.testing.assert_allclose(wider.toarray(), matrix, atol=1e-12)


def test_sparse_systems_tell_the_inertia() -> None:
    rng = np.random.default_rng(0)
    h = np.diag(rng.normal(size=30))
    g = sparse_matrix(8, 30, 3)
    system = SparseNewton(scipy.sparse.csr_array(h), scipy.sparse.csr_array(g), torch.zeros(30, dtype=F64))
    solver = Regularizer().factorize(system)
    assert solver is not None
    basis = np.linalg.svd(g)[2][8:]
    least = np.linalg.eigvalsh(basis @ h @ basis.T)[0]
    assert least < 0, "the case must need a shift"
    assert least + solver.shift > 0
    b = rng.normal(size=38)
    x = solver.solve(torch.from_numpy(b)).numpy()
    matrix = np.block([[h + solver.shift * np.eye(30), g.T], [g, np.zeros((8, 8))]])
    np.testing.assert_allclose(matrix @ x, b, atol=1e-6)


@pytest.mark.parametrize("dense", [True, False])
def test_projected_gradients_solve_the_same_system(dense: bool) -> None:
    rng = np.random.default_rng(1)
    root, g = rng.normal(size=(40, 40)), sparse_matrix(6, 40, 4)
    h = root @ root.T / 40 + np.eye(40)
    b = torch.from_numpy(rng.normal(size=46))
    rows = torch.from_numpy(g) if dense else scipy.sparse.csr_array(g)
    system = ProjectedNewton(operator_of(h, symmetric=True), rows, torch.zeros(40, dtype=F64), 1.0, b)
    solver = system.attempt(0.0, 0.0)
    assert solver is not None
    exact = np.linalg.solve(np.block([[h, g.T], [g, np.zeros((6, 6))]]), b.numpy())
    np.testing.assert_allclose(solver.solve(b), exact, atol=1e-4)
    np.testing.assert_allclose(g @ solver.solve(b)[:40].numpy(), b[40:], atol=1e-8)
    concave = ProjectedNewton(operator_of(-h, symmetric=True), rows, torch.zeros(40, dtype=F64), 1.0, b)
    assert concave.attempt(0, 0) is None


@pytest.mark.parametrize("options", [{}, {"semilinear": True}, {"semilinear": True, "largest": 8.0}])
def test_control_on_a_grid_is_solved_sparsely(options: dict[str, object]) -> None:
    given = elliptic_control(size=24, **options)
    result = precond.minimize(given.fun, given.start, constraints=given.constraints, bounds=given.bounds, tol=1e-8)
    assert result.converged, result.message
    assert "sparse" in result.method
    assert result.work.factorizations < 40
    assert result.work.hvps < 400, "the Hessian must not be made of products with all unit vectors"
    if given.bounds:
        assert float(result.x[24 * 24 :].abs().max()) <= 8.0 + 1e-8


def test_a_dense_hessian_is_handled_by_products() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40, 3200, generator=generator, dtype=F64) / 3200**0.5
    y = torch.sign(torch.randn(40, generator=generator, dtype=F64))
    result = precond.minimize(
        lambda x: torch.nn.functional.softplus(-y * (z @ x)).mean() + 1e-2 * (x @ x) / 2, torch.ones(3200, dtype=F64),
        constraints=lambda x: torch.stack([x.sum() - 1, x @ x - 10]),
    )  # fmt: skip
    assert result.converged, result.message
    assert "null space" in result.method
    assert result.work.inner > 0
    assert result.certificate.extra["smallest curvature"] > 0


def test_a_maximum_along_the_constraints_is_left() -> None:
    start = torch.tensor([1.0, 0.0], dtype=F64)
    result = precond.minimize(lambda x: -(x[0] ** 2) - 2 * x[1] ** 2, start, constraints=lambda x: x @ x - 1)
    assert result.status is Status.CONVERGED_KKT
    assert abs(float(result.x[1])) == pytest.approx(1, abs=1e-6)
    assert result.certificate.extra["smallest curvature"] == pytest.approx(2, abs=1e-4)
    flat = precond.minimize(lambda x: x[0] * x[1], torch.zeros(2, dtype=F64), constraints=lambda x: 0 * x.sum())
    assert flat.status is Status.CONVERGED_SADDLE


def test_complementarity_has_a_solution() -> None:
    result = precond.minimize(
        lambda x: (x[0] - 1) ** 2 + (x[1] - 1) ** 2, torch.tensor([0.5, 0.6], dtype=F64),
        constraints=[{"type": "ineq", "fun": lambda x: -x[0] * x[1]}], bounds=[(0, None)] * 2,
    )  # fmt: skip
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, [0, 1], atol=1e-4)


def test_wrong_jacobians_of_constraints_are_named() -> None:
    wrong = {"type": "eq", "fun": lambda x: x[0] ** 2 - 1, "jac": lambda x: np.array([-3 * x[0], 0.0])}
    given = {"jac": lambda x: 2 * x, "constraints": wrong}
    with pytest.raises(BadInputError, match="constraint 0"):
        precond.minimize(lambda x: float(x @ x), np.full(2, 3.0), check_gradients=True, **given)
    result = precond.minimize(lambda x: float(x @ x), np.full(2, 3.0), **given)
    assert not result.converged
    assert "constraint 0" in result.message


def test_infeasible_points_say_how_stationary_they_are() -> None:
    result = precond.minimize(lambda x: x @ x, torch.ones(2, dtype=F64), constraints=lambda x: x @ x + 1)
    assert result.status is Status.FAILED_INFEASIBLE
    assert result.certificate.extra["slope of the violation"] < 1e-3
    assert result.certificate.extra["feasibility"] == pytest.approx(1, abs=1e-4)


def test_sketches_next_to_a_singular_system_are_bounded() -> None:
    problem = ALL["hs26"]
    result = precond.minimize(
        problem.fun, torch.tensor(problem.start, dtype=F64), constraints=problem.constraints, method="sketched-newton"
    )
    assert result.converged
    assert result.work.inner <= 2010 * result.iterations


def test_the_exact_inner_solver_counts_its_factors() -> None:
    method = adasketch_newton(inner="dense")
    assert isinstance(method, SketchedNewton)
    assert isinstance(method.directions, Iterated)
    assert isinstance(method.directions.inner, Dense)
    result = precond.minimize(lambda x: x @ x, torch.ones(2, dtype=F64), constraints=lambda x: x[:1] - 1, method=method)
    assert result.work.factorizations > 0


@pytest.mark.parametrize("held", [0, 5])
def test_sparse_curvature_along_constraints_is_that_of_the_reduced_hessian(held: int) -> None:
    random = np.random.default_rng(0)
    n, m = 50, 15
    h = scipy.sparse.random_array((n, n), density=0.1, random_state=random)
    h = scipy.sparse.csr_array(h + h.T + 3 * scipy.sparse.eye_array(n))
    mask = np.ones(n)
    mask[:held] = 0
    within = scipy.sparse.diags_array(mask)
    rows = scipy.sparse.csr_array(scipy.sparse.random_array((m, n), density=0.3, random_state=random) @ within)
    h = scipy.sparse.csr_array(within @ h @ within)
    basis = scipy.linalg.null_space(rows.toarray()[:, held:])
    least = float(np.linalg.eigvalsh(basis.T @ h.toarray()[held:, held:] @ basis)[0])
    for shift in (0.1, 5.0):
        definite = scipy.sparse.csr_array(h + (shift - least) * within)
        found = _definite(definite, rows, torch.from_numpy(mask), 1e-8)
        assert found is not None
        assert shift * (1 - 1e-6) <= found.smallest <= shift * 1.03
    assert _definite(scipy.sparse.csr_array(h - (least + 0.1) * within), rows, torch.from_numpy(mask), 1e-8) is None
