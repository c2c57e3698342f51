"""Relaxation learned online, against the paper's equations and against fixed choices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import precond
from precond.core import BadInputError, IncompatibleError, UnknownNameError
from precond.krylov import SOR
from precond.solvers.sequences.bandits import ChebCB, TsallisINF, grid_of, tsallis
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(61)
SIDE = 5
LOWEST = 4 - 4 * np.cos(np.pi / (SIDE + 1))


def shifted(count, seed=0):
    """Return pairs of a shift and the shifted Laplacian, from hard to easy, with right-hand sides."""
    generator = np.random.default_rng(seed)
    one = scipy.sparse.eye_array(SIDE**2)
    for _ in range(count):
        c = LOWEST * (-0.9 + generator.beta(0.5, 1.5))
        yield c, scipy.sparse.csr_array(poisson(SIDE) + c * one), generator.standard_normal(SIDE**2)


def test_the_distribution_solves_its_optimization_problem():
    k, eta = np.array([3.0, 5.0, 4.0, 30.0]), 0.4
    p = tsallis(k, eta)
    assert p.sum() == pytest.approx(1)
    found = scipy.optimize.minimize(
        lambda q: k @ q - 4 / eta * np.sqrt(q).sum(), np.full(4, 0.25), bounds=[(1e-9, 1)] * 4, tol=1e-14,
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
    ).x  # fmt: skip
    np.testing.assert_allclose(p, found, atol=1e-4)
    for scale in (1e-9, 1.0, 1e9):
        assert tsallis(scale * k, eta).sum() == pytest.approx(1)


def test_losses_are_iterations_less_one_weighted_by_the_sampled_probability():
    learner = TsallisINF((1.0, 1.5, 1.9), seed=3)
    np.testing.assert_allclose(learner.distribution(), np.full(3, 1 / 3))
    k = np.zeros(3)
    for t, iterations in enumerate((40, 10, 25, 1, 7)):
        p = np.full(3, 1 / 3)
        if learner.losses and np.mean(learner.losses) > 0:
            p = tsallis(k / np.mean(learner.losses), 2 / np.sqrt(t + 1))
        np.testing.assert_allclose(learner.distribution(), p)
        arm = learner.grid.index(learner.draw())
        assert learner.probabilities[-1] == pytest.approx(p[arm])
        learner.learn(iterations)
        k[arm] += (iterations - 1) / p[arm]
    np.testing.assert_allclose(learner.estimates, k)
    weights = np.zeros(3)
    np.add.at(weights, [learner.grid.index(w) for w in learner.chosen], 1 / np.array(learner.probabilities))
    np.testing.assert_allclose(learner.means()[weights > 0], k[weights > 0] / weights[weights > 0])
    assert learner.regret == pytest.approx(sum((39, 9, 24, 0, 6)) - 5 * min(learner.means()))
    assert learner.best == learner.grid[int(k.argmin())]


def test_learners_find_the_best_of_a_grid():
    generator = np.random.default_rng(0)
    cost = {1.0: 400, 1.3: 200, 1.6: 100, 1.9: 160}
    learner = TsallisINF(tuple(cost))
    contextual = ChebCB(tuple(cost))
    means = {}
    for name, one in (("learned", learner), ("contextual", contextual)):
        for _ in range(400):
            c = generator.uniform()
            omega = one.draw(c)
            flipped = name == "contextual" and c > 0.5  # there the order of the values is the other way round
            one.learn(cost[omega] if not flipped else 500 - cost[omega])
        means[name] = np.mean(one.losses[200:])
    assert learner.best == 1.6
    assert means["learned"] < 150
    assert means["contextual"] < 140  # the best fixed value costs at least 200 on average


def test_predictions_are_least_squares_fits_of_chebyshev_polynomials():
    learner = ChebCB((1.0, 1.5), low=-1.0, high=1.0, degree=3)
    contexts = rng.uniform(-1, 1, 40)
    for c in contexts:
        omega = learner.draw(c)
        learner.learn(int(100 + (50 * c**2 if omega == 1.0 else 20 * c)))
    for arm, omega in enumerate(learner.grid):
        rows = [i for i, w in enumerate(learner.chosen) if w == omega]
        z = contexts[rows]
        f = np.stack([np.ones_like(z), z, 2 * z**2 - 1], axis=1)
        theta = np.linalg.lstsq(f, np.array(learner.losses)[rows] / learner.scale, rcond=None)[0]
        np.testing.assert_allclose(learner.theta[arm], theta, atol=1e-9)


def test_a_sequence_learns_the_relaxation_of_sor():
    count, limits = 40, {"rtol": 1e-4, "max_iterations": 999}
    fixed = {
        omega: np.mean([precond.solve(a, b, method=SOR(omega), **limits).iterations for _, a, b in shifted(count)])
        for omega in (1.0, 1.4, 1.8)
    }
    for learner in (TsallisINF(fixed), ChebCB(fixed)):
        sequence = precond.SolveSequence(method="sor", omega=learner, warm=False, **limits)
        results = [sequence.solve(a, b, context=c) for c, a, b in shifted(count)]
        assert all(result.converged for result in results)
        assert np.mean([result.iterations for result in results]) < np.mean(list(fixed.values()))  # a blind choice
        assert min(fixed, key=fixed.__getitem__) == pytest.approx(sequence.learner.best, abs=0.41)
        assert len(sequence.learner.chosen) == count
        assert sequence.regret == pytest.approx(sequence.learner.regret)
        assert "omega=" in results[-1].method
        assert f"over {count} systems" in results[-1].method


def test_the_relaxation_of_ssor_and_contexts_from_the_diagonal():
    sequence = precond.SolveSequence(method="cg", preconditioner="ssor", omega="contextual")
    for _, a, b in shifted(4):
        assert sequence.solve(a, b).converged
    assert len(set(sequence.learner.contexts)) == 4
    assert set(sequence.learner.chosen) <= set(grid_of())


def test_what_cannot_be_learned_is_refused():
    _, a, b = next(shifted(1))
    with pytest.raises(IncompatibleError, match="sor"):
        precond.SolveSequence(method="cg", preconditioner="ic0", omega="learned").solve(a, b)
    with pytest.raises(UnknownNameError):
        precond.SolveSequence(omega="guess")
    with pytest.raises(BadInputError, match="Learner"):
        precond.SolveSequence(omega=1.5)
    with pytest.raises(BadInputError, match="two values"):
        TsallisINF((1.0,))
    with pytest.raises(BadInputError, match="low < high"):
        ChebCB(low=1.0, high=0.0)
    with pytest.raises(BadInputError, match="context"):
        ChebCB().draw()
    assert precond.SolveSequence().regret is None


@pytest.mark.parametrize("make", [TsallisINF, ChebCB])
def test_the_regret_is_that_of_the_best_fixed_value(make):
    generator = np.random.default_rng(3)
    contexts = generator.uniform(size=400)
    grid = np.linspace(1.0, 1.9, 7)
    # the best value moves with the context, so that choices by the context may be better than any fixed one
    costs = 20 + 900 * (grid - 1.2 - 0.5 * contexts[:, None]) ** 2 + generator.uniform(0, 10, (400, 7))
    learner = make(tuple(grid))
    for c, row in zip(contexts, costs.round(), strict=True):
        learner.learn(int(row[learner.grid.index(learner.draw(float(c)))]))
    fixed = costs.round().mean(axis=0)
    spent = np.mean(learner.losses) + 1
    true = spent - fixed.min()
    assert bool(true < 0) == (make is ChebCB)
    assert learner.regret / 400 == pytest.approx(true, abs=0.1 * fixed.min())
    assert fixed[learner.grid.index(learner.best)] <= 1.1 * fixed.min()


def test_a_relaxation_that_diverges_soon_is_not_cheap():
    entries = [np.full(60, 2.0), np.full(59, -1.6), np.full(59, 0.9)]
    a = scipy.sparse.diags_array(entries, offsets=[0, 1, -1]).tocsr()
    limits = {"rtol": 1e-12, "max_iterations": 1000}
    slow, failed = (precond.solve(a, np.ones(60), method=SOR(omega), **limits) for omega in (0.1, 1.9))
    assert slow.converged
    assert not failed.converged
    assert 0 < failed.iterations < slow.iterations  # or this test shows nothing
    sequence = precond.SolveSequence(method="sor", omega=TsallisINF((0.1, 1.9)), warm=False, **limits)
    for _ in range(60):
        sequence.solve(a, rng.standard_normal(60))
    assert sequence.learner.best == 0.1
    assert sequence.learner.chosen[-20:].count(0.1) >= 17
    assert max(sequence.learner.losses) == 999


def test_a_system_that_is_given_up_teaches_nothing():
    systems = list(shifted(6))
    for learner in (TsallisINF(), ChebCB()):
        sequence = precond.SolveSequence(method="sor", omega=learner, warm=False)
        for c, a, b in systems:
            stopped = sequence.solve(a, b, context=c + 5, callback=lambda event: True)
            assert not stopped.converged
            sequence.solve(a, b, context=c)
        assert len(learner.losses) == len(learner.chosen) == len(learner.probabilities) == 6
        assert np.isfinite(learner.regret)
    assert learner.contexts == [c for c, _, _ in systems]
    with pytest.raises(BadInputError, match="finite"):
        learner.draw(float("nan"))
