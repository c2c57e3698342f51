"""Large programs with equations: Hessians of regressions, their sketches, constraint preconditioners, acceptance."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional

import precond
from precond.core import Evidence, Operator, Progress, Work
from precond.operators import DenseOperator, FunctionOperator
from precond.operators.kkt import KKT
from precond.operators.near import near, subspace
from precond.problems import elliptic_control
from precond.programs import constraint
from precond.programs.accuracy import System
from precond.programs.constraint import ConstraintPreconditioner
from precond.programs.directions import Directions
from precond.programs.hessian_sketch import HessianSketch
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.programs import sketched_newton
from precond.solvers.programs.by_torch import TorchProgram

F64 = torch.float64
Function = Callable[[Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def plain(features: Tensor, signs: Tensor) -> Function:
    return lambda x: functional.softplus(-signs * (features @ x)).mean() + 0.1 * x.pow(4).sum()


def with_intercept(features: Tensor, signs: Tensor) -> Function:
    return lambda x: functional.softplus(-signs * (features @ x[:-1] + x[-1])).mean()


def softmax(features: Tensor, signs: Tensor) -> Function:
    labels = (signs > 0).long() + (features[:, 0] > 1).long()
    return lambda x: functional.cross_entropy(features @ x.view(features.shape[1], 3), labels)


def circle(x: Tensor) -> Tensor:
    return torch.stack([x.sum() - 1, x[0] * x[1] + x @ x - 4])


@pytest.mark.parametrize(("loss", "columns", "n"), [(plain, 80, 80), (with_intercept, 80, 81), (softmax, 70, 210)])
@pytest.mark.parametrize("rare", [False, True])
def test_hessians_of_regressions_are_known_by_their_data(loss: Any, columns: int, n: int, rare: bool) -> None:
    features = draw(1200, columns)
    if rare:  # mostly zero, so kept as a sparse matrix, with a column that two rows alone have
        features = features * (draw(1200, columns, seed=1) > 1.5)
        features[:, 3] = 0
        features[5, 3], features[900, 3] = 2.0, -1.0
    fun = loss(features, torch.sign(draw(1200, seed=2)))
    free = torch.full((n,), torch.inf, dtype=F64)
    program = TorchProgram(fun, circle, -free, free, 2)
    x, multipliers = 0.1 * draw(n, seed=3), draw(2, seed=4)
    hessian = program.hessian(program.site(x), multipliers)
    wanted = torch.autograd.functional.hessian(lambda y: fun(y) + multipliers @ circle(y), x)
    assembled = hessian.assembled()
    assert assembled is not None, "the data were not recognised"
    torch.testing.assert_close(assembled, wanted, rtol=1e-9, atol=1e-11)
    v = draw(5, n, seed=5)
    torch.testing.assert_close(hessian.matvec(v), v @ wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(hessian.matvec(v[:1]), v[:1] @ wanted, rtol=1e-9, atol=1e-11)

    curved = torch.autograd.functional.hessian(lambda y: multipliers @ circle(y), x)
    size = 400
    found = [hessian.approximated(size, seed) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    ridge = 1e-6 * torch.eye(n, dtype=F64)
    values = scipy.linalg.eigvalsh(found[0] - curved + ridge, wanted - curved + ridge)
    spread = (n / size) ** 0.5
    assert values.min() > (1 - spread) ** 2 / 3
    assert values.max() < 1.5 * (1 + spread) ** 2


@pytest.mark.parametrize("values", [[9.0, 4.0, 1.0], [-9.0, 4.0, -1.0]])
def test_a_subspace_finds_what_sticks_out_of_a_multiple_of_the_identity(values: list[float]) -> None:
    basis = torch.linalg.qr(draw(60, 3)).Q
    matrix = (basis * torch.tensor(values, dtype=F64)) @ basis.mT + 0.01 * torch.eye(60, dtype=F64)
    found = subspace(FunctionOperator(lambda v: v @ matrix, (60, 60), symmetric=True), 40)
    torch.testing.assert_close(found, matrix, rtol=0, atol=1e-4)


def test_a_sketch_takes_a_fraction_of_the_products() -> None:
    asked, matrix = 0, torch.diag(1 / torch.arange(1, 801, dtype=F64))

    def product(v: Tensor) -> Tensor:
        nonlocal asked
        asked += len(v)
        return v @ matrix

    operator = FunctionOperator(product, (800, 800), symmetric=True)
    rough, finer = (float((near(operator, level) - matrix).norm()) for level in (0, 1))
    assert finer < rough < float(matrix.norm()) / 4
    assert asked < 800


def system(n: int = 40, m: int = 7, least: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    basis = np.linalg.qr(draw(n, n).numpy())[0]
    return (basis * np.linspace(least, 5, n)) @ basis.T, draw(m, n, seed=1).numpy()


def by_products(h: np.ndarray) -> Operator:
    matrix = torch.from_numpy(h)
    return FunctionOperator(lambda v: v @ matrix, h.shape, symmetric=True)


def dense(h: np.ndarray, g: np.ndarray, shift: float = 0.0, delta: float = 0.0) -> np.ndarray:
    return np.block([[h + shift * np.eye(len(h)), g.T], [g, -delta * np.eye(len(g))]])


@pytest.mark.parametrize(("shift", "delta"), [(0.0, 0.0), (0.5, 1e-3)])
def test_the_preconditioner_of_a_small_system_is_its_inverse(shift: float, delta: float) -> None:
    h, g = system()
    kkt = KKT(by_products(h), DenseOperator(torch.from_numpy(g)), shift=shift, delta=delta)
    part = ConstraintPreconditioner()
    state = part.init(torch.zeros(2, 47, dtype=F64))
    part.observe(state, Evidence(operator=kkt))
    assert part.refresh(state).failures == 0
    v = draw(2, 47, seed=3)
    wanted = np.linalg.solve(dense(h, g, shift, delta), v.numpy().T).T
    np.testing.assert_allclose(part.apply(state, v), wanted, rtol=1e-8, atol=1e-8)


def test_a_shift_makes_the_hessian_positive_along_the_constraints() -> None:
    h, g = system(least=-2.0)
    part = ConstraintPreconditioner()
    state = part.init(torch.zeros(1, 47, dtype=F64))
    part.observe(state, Evidence(operator=KKT(by_products(h), DenseOperator(torch.from_numpy(g)))))
    part.refresh(state)
    basis = scipy.linalg.null_space(g)
    least = np.linalg.eigvalsh(basis.T @ h @ basis)[0]
    assert 0 < -least < state.shift < -10 * least


@pytest.mark.parametrize("side", [6000, 100], ids=["sketch", "diagonal"])
def test_the_preconditioner_serves_in_solve_and_keeps_the_constraints(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraint, "SIDE", side)
    n, m = 400, 30
    h, g = system(n, m)
    h = h + np.diag(np.geomspace(1e-2, 1e4, n))
    kkt = KKT(by_products(h), DenseOperator(torch.from_numpy(g)))
    b = draw(n + m, seed=6)
    plain, helped = (
        precond.solve(kkt, b, method="gmres", preconditioner=p, rtol=1e-8, max_iterations=2000)
        for p in ("identity", ConstraintPreconditioner())
    )
    assert helped.converged, helped.message
    assert helped.iterations < plain.iterations / 5
    np.testing.assert_allclose(helped.x, np.linalg.solve(dense(h, g), b.numpy()), rtol=1e-4, atol=1e-5)

    part = ConstraintPreconditioner()
    state = part.init(b[None])
    part.observe(state, Evidence(operator=kkt))
    part.refresh(state)
    image = part.apply(state, torch.eye(n + m, dtype=F64)).numpy() @ dense(h, g)
    ones = np.abs(np.linalg.eigvals(image) - 1) < 1e-4
    assert ones.sum() >= 2 * m  # theorem 2.1 of Keller, Gould, Wathen


def quartic(n: int, m: int) -> tuple[Function, Function, Tensor]:
    basis = torch.linalg.qr(draw(n, n)).Q
    matrix = (basis / torch.arange(1, n + 1, dtype=F64)) @ basis.mT
    slope, rows = draw(n, seed=1) / n**0.5, draw(m, n, seed=2) / n**0.5
    return (
        lambda x: x @ (matrix @ x) / 2 + x.pow(4).sum() / n - slope @ x + 5e-3 * (x @ x),
        lambda x: torch.cat([rows @ x, (x @ x)[None] - 1]), torch.full((n,), n**-0.5, dtype=F64),
    )  # fmt: skip


def regression(n: int, m: int) -> tuple[Function, Function, Tensor]:
    features, rows = draw(4000, n) * torch.arange(1, n + 1) ** -0.5, draw(m, n, seed=2)
    signs = torch.sign(features @ draw(n, seed=1) + draw(4000, seed=3))
    b = rows @ draw(n, seed=4) / n**0.5
    return (
        lambda x: functional.softplus(-signs * (features @ x)).mean() + 1e-3 * (x @ x),
        lambda x: rows @ x - b, torch.zeros(n, dtype=F64),
    )  # fmt: skip


@pytest.mark.parametrize(("make", "n"), [(quartic, 300), (regression, 150)])
def test_a_sketched_hessian_leads_where_exact_solves_lead(make: Any, n: int) -> None:
    fun, constraints, start = make(n, 20)
    found, exact = (
        precond.minimize(fun, start, constraints=constraints, method=method, tol=1e-7)
        for method in ("sketched-newton", sketched_newton(inner="dense"))
    )
    assert found.converged, found.message
    assert float(fun(found.x)) == pytest.approx(float(fun(exact.x)), abs=1e-6)
    assert found.work.refreshes < found.iterations, "a sketch must serve several systems"
    assert found.work.inner < 12 * found.iterations
    if make is quartic:
        certificate = n  # its Hessian is materialized once
        assert found.work.hvps - certificate < (exact.work.hvps - certificate) / 2


def test_a_fresh_sketch_that_is_not_enough_makes_way_for_a_larger_one() -> None:
    h, g = system(400, 30)
    part, work, right = HessianSketch(stale=1, fresh=2, levels=2), Work(), draw(430, seed=6)
    memory = part.memory()
    given = part.system(
        by_products(h), DenseOperator(torch.from_numpy(g)), float(right.norm()), memory, work, dense=False
    )
    steps = list(itertools.islice(part.proposals(given, right, memory, work), 20))
    assert (memory.level, memory.made, work.refreshes) == (2, 3, 3)
    assert steps[-1].solved, "the caller is to take what there is"
    left = [float(step.residual) for step in steps]
    assert all(later <= before * 1.001 for before, later in itertools.pairwise(left)), "no sketch begins from nothing"


def test_a_sketch_that_has_faded_is_made_anew_for_the_next_system() -> None:
    h, g = system(400, 30)
    other = np.diag(np.geomspace(1e-2, 1e4, 400))
    jacobian, part, work, right = DenseOperator(torch.from_numpy(g)), HessianSketch(), Work(), draw(430, seed=6)
    memory, due, made = part.memory(), [], []
    for count, matrix in enumerate((h, 1.01 * h, other)):
        given = part.system(by_products(matrix), jacobian, 0.1**count, memory, work, dense=False)
        for _ in itertools.islice(part.proposals(given, right, memory, work), 8):
            pass
        due.append(memory.due)
        made.append(memory.made)
    assert made == [1, 1, 1]
    assert due == [False, False, True]


def test_seeds_differ_and_the_solution_does_not() -> None:
    fun, constraints, start = quartic(260, 20)
    first, second = (
        precond.minimize(fun, start, constraints=constraints, method=sketched_newton(seed=seed), tol=1e-8)
        for seed in (1, 2)
    )
    assert first.history != second.history
    assert float((first.x - second.x).norm()) < 1e-5


def test_large_control_is_solved_by_its_sparse_entries() -> None:
    given = elliptic_control(size=24, semilinear=True)
    result = precond.minimize(given.fun, given.start, constraints=given.constraints, method="sketched-newton", tol=1e-8)
    assert result.converged, result.message
    assert result.work.hvps < 400


@pytest.mark.parametrize("fits", [True, False], ids=["diagonal", "products alone"])
def test_beyond_what_is_factorized_dense_the_blocks_are_known_by_products(
    fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraint, "SIDE", 50)
    if not fits:
        monkeypatch.setattr(constraint, "fits", lambda *_: False)
    fun, constraints, start = regression(120, 10)
    result = precond.minimize(fun, start, constraints=constraints, method="sketched-newton", tol=1e-6)
    assert result.converged, result.message
    assert result.work.factorizations == (result.work.refreshes if fits else 0)


@dataclasses.dataclass(frozen=True)
class Misleading(Directions[None]):
    """Proposes a step within the bound on residuals along which the merit rises, then the exact one."""

    honest: bool = False

    def memory(self) -> None:
        return None

    def system(
        self, hessian: Operator, jacobian: Operator, size: float, memory: None, work: Work, *, dense: bool
    ) -> System:
        return System(size, KKT(hessian, jacobian))

    def proposals(self, system: System, right: Tensor, memory: None, work: Work) -> Iterator[Progress]:
        matrix = system.operator.matvec(torch.eye(len(right), dtype=F64)).mT
        exact = torch.linalg.solve(matrix, right)
        if not self.honest:
            off = torch.zeros_like(right)
            off[0] = 0.099 * system.size  # where there is little curvature this goes far, and uphill
            bad = exact + torch.linalg.solve(matrix, off)
            yield Progress(off.norm()[None], lambda: bad[None])
        yield Progress(torch.zeros(1, dtype=F64), lambda: exact[None], solved=True)


def test_a_step_along_which_the_merit_rises_is_not_taken_however_small_its_residual() -> None:
    weights, slope = torch.tensor([1e-5, 1, 2, 3], dtype=F64), torch.tensor([0.1, 1, 1, 1], dtype=F64)

    def run(directions: Misleading) -> list[Tensor]:
        points: list[Tensor] = []
        precond.minimize(
            lambda x: (weights * x * x).sum() / 2 + slope @ x, torch.ones(4, dtype=F64), max_iterations=3, tol=1e-10,
            constraints=lambda x: x[1:3].sum()[None] - 1, method=SketchedNewton(directions),
            callback=lambda event: points.append(event.x.clone()),
        )  # fmt: skip
        return points

    misled, honest = run(Misleading()), run(Misleading(honest=True))
    assert len(misled) == len(honest) == 2, "the exact step solves a quadratic problem"
    torch.testing.assert_close(misled[1], honest[1])
