"""Newton's method with sparse Hessians: entries against dense ones, steps, and how few products they take."""

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import Evidence, IncompatibleError, Work
from precond.math.sparse.graphs import width
from precond.operators.compressed import Recovered
from precond.operators.dense import DenseOperator
from precond.preconditioners.sparse_cholesky import SparseCholesky
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.smooth.sparse_objective import PATIENCE, SparseObjective


def valley(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def valley_hessian(x):
    """The tridiagonal Hessian of the chained valley, written out."""
    n, h = len(x), np.zeros((len(x), len(x)))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
        h[i + 1, i + 1] += 200
    return h


def arrow(x):
    return ((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1]).sum()


def hinge(x):
    return (torch.relu(x[1:] - x[:-1] - 0.1) ** 2).sum() + ((x - torch.arange(len(x)) % 7) ** 2).sum()


def recovered(fun, x):
    """An objective that has its entries from the first Hessian on."""
    objective = SparseObjective.of(TorchObjective(fun, curvature=True), x[None])
    assert objective is not None
    objective.work.hvps += PATIENCE
    objective.hessian(x[None])
    return objective


def test_entries_are_those_of_the_written_hessian_by_four_products():
    x = torch.linspace(-1.5, 1.5, 90).double()
    objective = recovered(valley, x)
    before = objective.work.hvps
    entries = objective.hessian(x[None]).entries()
    assert objective.work.hvps - before == 4  # three colors, and one product that checks them
    np.testing.assert_allclose(entries.toarray(), valley_hessian(x.numpy()), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("fun", [arrow, hinge])
def test_full_rows_and_entries_that_appear_later_are_found(fun):
    x = torch.zeros(80).double()
    objective = recovered(fun, x + 0.05)
    for seed in range(4):
        y = torch.randn(80, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        got = objective.hessian(y[None]).entries().toarray()
        np.testing.assert_allclose(got, torch.autograd.functional.hessian(fun, y), rtol=1e-11, atol=1e-11)


def test_pattern_that_keeps_growing_is_given_up_and_the_products_remain():
    n, calls = 64, []

    def fun(x):  # each evaluation couples another pair
        calls.append(0)
        shift = 1 + len(calls) % (n - 1)
        return (x**4).sum() + (x * x.roll(shift)).sum() / 8 + (x - 1).square().sum()

    objective = recovered(fun, torch.ones(n).double())
    kinds = {type(objective.hessian(torch.full((1, n), 1 + k / 100).double())).__name__ for k in range(40)}
    assert "Hessian" in kinds


def test_entries_in_single_precision_are_not_taken_for_wrong_by_their_rounding():
    start = torch.linspace(-1.5, 1.5, 90)
    objective = recovered(valley, start)
    for seed in range(20):
        x = 3 * torch.randn(90, generator=torch.Generator().manual_seed(seed))
        before = objective.work.hvps
        entries = objective.hessian(x[None]).entries()
        assert objective.work.hvps - before == 4  # the check holds, and nothing is looked for
        np.testing.assert_allclose(entries.toarray(), valley_hessian(x.double().numpy()), rtol=1e-5, atol=1e-2)
    result = precond.minimize(valley, torch.zeros(32), tol=1e-3, method="sparse-newton")
    assert result.converged
    assert result.work.refresh_failures == 0


@pytest.mark.parametrize("definite", [True, False])
def test_part_solves_definite_matrices_and_shifts_others(definite):
    rng = np.random.default_rng(0)
    a = scipy.sparse.random(70, 70, 0.05, random_state=rng).toarray()
    scale = np.logspace(-4, 4, 70)
    matrix = scale[:, None] * (a + a.T + (8 if definite else 0.3) * np.eye(70)) * scale
    operator = Recovered(scipy.sparse.csr_array(matrix), DenseOperator(torch.from_numpy(matrix)))
    part, v = SparseCholesky(), torch.from_numpy(rng.normal(size=(3, 70)) * scale)
    state = part.init(v)
    torch.testing.assert_close(part.apply(state, v), v)
    part.observe(state, Evidence(gradient=v, previous=v, operator=operator))
    assert part.refresh(state).failures == 0
    found = part.apply(state, v).numpy()
    if definite:
        np.testing.assert_allclose(found * scale, np.linalg.solve(matrix, v.numpy().T).T * scale, rtol=1e-8, atol=1e-12)
    assert (found * v.numpy()).sum(1).min() > 0  # downhill, whatever the matrix
    inverse = part.apply(state, torch.eye(70).double()).numpy()
    np.testing.assert_allclose(inverse, inverse.T, rtol=1e-6, atol=1e-9 * np.abs(inverse).max())


def test_matrices_that_cannot_be_factored_keep_the_last_factors():
    x = torch.linspace(-1.0, 1.0, 64).double()
    hessian = recovered(valley, x).hessian(torch.ones_like(x)[None])
    part, v = SparseCholesky(), torch.ones(1, 64).double()
    state = part.init(v)
    assert part.refresh(state).failures == 0
    for operator in (hessian, DenseOperator(torch.eye(64).double())):
        part.observe(state, Evidence(gradient=v, previous=v, operator=operator))
        assert part.refresh(state).failures == 0
    broken = hessian.entries().copy()
    broken.data[3] = np.nan
    part.observe(state, Evidence(gradient=v, previous=v, operator=Recovered(broken, hessian)))
    assert "not finite" in part.refresh(state).detail
    want = np.linalg.solve(valley_hessian(np.ones(64)), np.ones(64))
    np.testing.assert_allclose(part.apply(state, v)[0], want, rtol=1e-8)


@pytest.mark.parametrize("n", [100, 400])
def test_auto_takes_it_where_the_hessian_is_sparse(n):
    result = precond.minimize(valley, -1.2 * torch.ones(n).double())
    assert result.method.startswith("sparse-newton (auto")
    assert result.converged
    assert result.iterations < 2 * n
    assert result.work.hvps < 10 * n
    np.testing.assert_allclose(result.x, np.ones(n), atol=1e-5)


def test_easy_problems_are_over_before_the_entries_are_looked_for():
    def easy(x):
        return ((x - 1) ** 4).sum() + ((x[1:] - x[:-1]) ** 2).sum() + (x**2).sum()

    result = precond.minimize(easy, torch.zeros(3000).double())
    assert result.converged
    assert result.method.startswith("sparse-newton")
    assert result.work.hvps < PATIENCE


def test_headline_products_do_not_grow_with_the_variables():
    def broyden(x):
        z = torch.cat([x.new_zeros(1), x, x.new_zeros(1)])
        return (((3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1) ** 2).sum()

    small, large = (precond.minimize(broyden, -torch.ones(n).double(), method="sparse-newton") for n in (64, 8192))
    assert small.converged
    assert large.converged
    assert large.work.hvps - small.work.hvps < 40  # the search for the pattern; Hessians take six each


def test_dense_hessians_are_refused_by_name_and_left_to_others_by_auto():
    def dense(x):
        return (x**4).sum() + (x.sum() - 1) ** 2

    objective = TorchObjective(dense, curvature=True, work=Work())
    assert SparseObjective.of(objective, torch.ones(1, 200).double()) is None
    assert objective.work.hvps <= 2  # few products are enough to see it
    with pytest.raises(IncompatibleError, match="newton-cholesky"):
        precond.minimize(dense, torch.ones(200).double(), method="sparse-newton")
    assert precond.minimize(dense, torch.ones(200).double()).method.startswith("newton-cholesky")


def test_edge_of_the_domain_and_given_products():
    def barrier(x):
        return -x.log().sum() + (x**2).sum() + (x[1:] * x[:-1]).sum()

    result = precond.minimize(barrier, torch.full((300,), 1e-7).double())
    assert result.converged
    assert result.method.startswith("sparse-newton")

    def gradient(x):
        g = 2 * (x - 1)
        g[0] += 4 * x[0] ** 3
        return g

    given = precond.minimize(
        lambda x: ((x - 1) ** 2).sum() + x[0] ** 4, np.zeros(90), jac=gradient,
        hessp=lambda x, p: 2 * p + np.where(np.arange(90) == 0, 12 * x**2 * p, 0),
    )  # fmt: skip
    assert given.converged
    assert given.method.startswith("sparse-newton")
    assert isinstance(given.x, np.ndarray)


def test_width_of_chains_grids_and_many_components():
    chain = scipy.sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(400, 400)).tocsr()
    line, one = scipy.sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(20, 20)), scipy.sparse.eye_array(20)
    grid = scipy.sparse.csr_array(scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line))
    blocks = scipy.sparse.csr_array(scipy.sparse.block_diag([np.ones((4, 4))] * 30))
    dense = scipy.sparse.csr_array(np.ones((50, 50)))
    assert width(chain) == pytest.approx(1.0, rel=0.01)
    assert 9 <= width(grid) <= 11
    assert width(blocks) <= 4
    assert width(dense) >= 25
    assert width(scipy.sparse.csr_array((0, 0))) == 0


def test_patterns_that_would_save_nothing_are_not_used():
    def crowded(x):  # each variable meets a third of the others, so that recovery takes as many colors as columns
        return (x**4).sum() + sum((x * x.roll(k)).sum() for k in range(1, 11)) / 50

    x = torch.ones(64).double()
    assert recovered(crowded, x).hessian(x[None]).entries() is None

    def wide(x):  # a torus, whose factors fill in
        u = x.reshape(250, 250)
        return (x**4).sum() + ((u - u.roll(1, 0)) ** 2).sum() + ((u - u.roll(1, 1)) ** 2).sum()

    x = torch.ones(62_500).double()
    assert recovered(wide, x).hessian(x[None]).entries() is None


def test_a_batch_of_products_has_its_own_price():
    def cheap(x):
        return (x**4).sum()

    prices = {}
    for n in (10, 200):
        objective = TorchObjective(cheap, curvature=True)
        prices[n] = objective.hessian(torch.ones(1, n).double()).price(n)
    assert prices[10] == 2  # measured: 1.6
    assert prices[200] < 50


def test_pivots_that_are_rounding_do_not_count_as_definite():
    matrix = np.ones((2, 2)) + np.diag([0.0, 1e-15])  # positive definite, if its last digit is believed
    operator = Recovered(scipy.sparse.csr_array(matrix), DenseOperator(torch.from_numpy(matrix)))
    part, v = SparseCholesky(), torch.ones(1, 2).double()
    state = part.init(v)
    part.observe(state, Evidence(gradient=v, previous=v, operator=operator))
    assert part.refresh(state).failures == 0
    assert state.shift > 0


@pytest.mark.parametrize("n", [0, 1, 2, 31])
def test_few_variables_are_minimized_without_entries(n):
    result = precond.minimize(
        lambda x: ((x - 1) ** 4).sum() + (x**2).sum(), torch.zeros(n).double(), method="sparse-newton"
    )
    assert result.converged
    assert result.x.shape == (n,)
