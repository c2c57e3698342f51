"""Block coordinate descent against plain loops, and the order of the rules that the paper shows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import Composite, IncompatibleError
from precond.losses import LeastSquares, Logistic, Quadratic
from precond.penalties import L1, NonNegative, Within, Zero
from precond.recipes.block_descent import block_descent
from tests.papers.sparse_toys import regression

RIDGE = 1e-3


def badly_scaled(m: int = 60, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.3) * np.exp(rng.normal(size=n))
    return a, a @ rng.normal(size=n) + rng.normal(size=m)


A, Y = badly_scaled()
M, N = A.shape
H = A.T @ A + RIDGE * np.eye(N)
SIZE = 5


def iterates(sparse: bool, steps: int, **options) -> list[np.ndarray]:
    loss = LeastSquares(scipy.sparse.csr_array(A) if sparse else A, Y, scale=1.0, ridge=RIDGE)
    start = torch.zeros(N, dtype=torch.float64)
    running = block_descent(size=SIZE, **options).iterate(Composite(loss.objective(), Zero()), start, 0.0)
    return [standing.x.numpy() for standing in itertools.islice(running, 1, steps + 1)]


def plain(steps: int, choose, move) -> list[np.ndarray]:
    """Return the points of a plain loop."""
    x, out = np.zeros(N), []
    for _ in range(steps):
        g = H @ x - A.T @ Y
        block = choose(g)
        x[block] += move(block, g[block])
        out.append(x.copy())
    return out


def scalar(block: np.ndarray, g: np.ndarray) -> np.ndarray:
    return -g / np.linalg.eigvalsh(H[np.ix_(block, block)])[-1]


def matrix(block: np.ndarray, g: np.ndarray) -> np.ndarray:
    return -np.linalg.solve(H[np.ix_(block, block)], g)


BLOCKS = np.arange(N).reshape(-1, SIZE)
BOUNDS = np.array([np.linalg.eigvalsh(H[np.ix_(b, b)])[-1] for b in BLOCKS])
SPREAD = (np.abs(A).T @ np.abs(A)).sum(1) + RIDGE
RULES = {
    "gs": lambda g: BLOCKS[np.argmax([g[b] @ g[b] for b in BLOCKS])],
    "gsl": lambda g: BLOCKS[np.argmax([g[b] @ g[b] / bound for b, bound in zip(BLOCKS, BOUNDS, strict=True)])],
    "gsd": lambda g: BLOCKS[np.argmax([(g[b] ** 2 / SPREAD[b]).sum() for b in BLOCKS])],
    "gsq": lambda g: BLOCKS[np.argmax([g[b] @ np.linalg.solve(H[np.ix_(b, b)], g[b]) for b in BLOCKS])],
}
VARIABLE = {
    "gs": lambda g: np.sort(np.argsort(-np.abs(g))[:SIZE]),
    "gsl": lambda g: np.sort(np.argsort(-np.abs(g) / np.sqrt(np.diag(H)))[:SIZE]),
    "gsd": lambda g: np.sort(np.argsort(-np.abs(g) / np.sqrt(SPREAD))[:SIZE]),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("update", ["scalar", "matrix"])
@pytest.mark.parametrize("rule", RULES)
def test_greedy_rules_of_fixed_blocks(rule: str, update: str, sparse: bool) -> None:
    found = iterates(sparse, 25, rule=rule, update=update, variable=False)
    expected = plain(25, RULES[rule], scalar if update == "scalar" else matrix)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("update", ["scalar", "matrix"])
@pytest.mark.parametrize("rule", VARIABLE)
def test_greedy_rules_of_variable_blocks(rule: str, update: str) -> None:
    found = iterates(False, 25, rule=rule, update=update)
    expected = plain(25, VARIABLE[rule], scalar if update == "scalar" else matrix)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_cyclic_rounds() -> None:
    count = itertools.count()
    rounds = len(BLOCKS)
    expected = plain(3 * rounds, lambda g: BLOCKS[next(count) % rounds], matrix)[rounds - 1 :: rounds]
    np.testing.assert_allclose(iterates(True, 3, rule="cyclic"), expected, rtol=1e-7, atol=1e-9)


def test_partitions_by_curvature() -> None:
    falling = np.argsort(-np.diag(H), kind="stable")
    first = iterates(False, 1, rule="gs", update="matrix", variable=False, partition="sorted")[0]
    blocks = np.sort(falling.reshape(-1, SIZE), axis=1)
    g = -A.T @ Y
    best = blocks[np.argmax([g[b] @ g[b] for b in blocks])]
    assert set(first.nonzero()[0]) == set(best)
    mixed = iterates(False, 1, rule="cyclic", partition="averaged")
    assert np.isfinite(mixed).all()


def test_the_order_of_the_rules() -> None:
    """The paper's figure: matrix before scalar, variable before fixed, GSL before GS, greedy before random."""
    best = np.linalg.solve(H, A.T @ Y)
    level = best @ H @ best / 2 - A.T @ Y @ best

    def gap(**options) -> float:
        cheap = options["rule"] in ("random", "cyclic")
        x = iterates(True, 10 if cheap else 10 * len(BLOCKS), **options)[-1]
        return float((x @ H @ x / 2 - A.T @ Y @ x - level) / -level)

    for update in ("scalar", "matrix"):
        fixed = {rule: gap(rule=rule, update=update, variable=False) for rule in ("random", "cyclic", "gs", "gsl")}
        assert fixed["gsl"] < min(fixed["random"], fixed["cyclic"])
        assert fixed["gs"] < fixed["random"]
        assert update == "matrix" or fixed["gsl"] < 0.9 * fixed["gs"]
    for rule in ("gs", "gsd"):
        assert gap(rule=rule, update="matrix") < gap(rule=rule, update="scalar")
    assert gap(rule="gsd", update="matrix") < gap(rule="gsd", update="matrix", variable=False)
    assert gap(rule="gsl", update="scalar") < 0.1 * gap(rule="gsl", update="scalar", variable=False)


def lattice(k: int) -> scipy.sparse.csr_array:
    line = scipy.sparse.diags_array([-np.ones(k - 1), 2.1 * np.ones(k), -np.ones(k - 1)], offsets=[-1, 0, 1])
    eye = scipy.sparse.eye_array(k)
    return scipy.sparse.csr_array(scipy.sparse.kron(line, eye) + scipy.sparse.kron(eye, line))


def test_messages_minimize_over_a_forest() -> None:
    matrix, c = lattice(7), np.random.default_rng(0).normal(size=49)
    start = torch.zeros(49, dtype=torch.float64)
    running = block_descent(rule="forest", update="tree").iterate(
        Composite(Quadratic(matrix, c).objective(), Zero()), start, 0.0
    )
    dense, previous = matrix.toarray(), np.zeros(49)
    for standing in itertools.islice(running, 1, 6):
        x = standing.x.numpy()
        moved = np.flatnonzero(x != previous)
        edges = np.count_nonzero(np.triu(dense[np.ix_(moved, moved)], 1))
        assert edges < len(moved), "a forest has fewer edges than nodes"
        assert len(moved) > 25, "the forest is as large as it can be"
        np.testing.assert_allclose((dense @ x - c)[moved], 0, atol=1e-10)
        previous = x


def test_trees_beat_points_of_one_colour() -> None:
    matrix, c = lattice(12), np.random.default_rng(0).normal(size=144)
    values = {}
    for name, options in {
        "forest": {"rule": "forest", "update": "tree"},
        "forests": {"rule": "cyclic", "update": "tree", "partition": "forests"},
        "colours": {"rule": "cyclic", "update": "tree", "partition": "colours"},
    }.items():
        method = block_descent(**options)
        object.__setattr__(method, "every", 1)
        start = torch.zeros(144, dtype=torch.float64)
        running = method.iterate(Composite(Quadratic(matrix, c).objective(), Zero()), start, 0.0)
        values[name] = float(next(itertools.islice(running, 12, 13)).spot().total)
    assert values["forest"] < values["colours"]
    assert values["forests"] < values["colours"]


@pytest.mark.parametrize("penalty", [L1(0.1), Within(L1(0.1), 0.0), NonNegative()], ids=["l1", "l1-nn", "nn"])
def test_penalties_and_the_active_set(penalty) -> None:
    """The support is identified after finitely many blocks, and stays."""
    a, y, _ = regression(100, 60)
    loss, start = LeastSquares(a, y), torch.zeros(60, dtype=torch.float64)
    supports = []
    method = block_descent(rule="improvement", size=10)
    result = precond.minimize(
        loss, start, penalty=penalty, method=method, tol=1e-10,
        callback=lambda event: supports.append((event.x != 0).numpy()) and False,
    )  # fmt: skip
    assert result.converged
    other = precond.minimize(loss, start, penalty=penalty, method="fista", tol=1e-10)
    np.testing.assert_allclose(result.x.numpy(), other.x.numpy(), atol=1e-8)
    last = [bool((each == supports[-1]).all()) for each in supports]
    assert 0 < last.index(True) < len(last) - 1
    assert all(last[last.index(True) :])


@pytest.mark.parametrize("update", ["newton", "search"])
def test_losses_without_known_curvature(update: str) -> None:
    rows, signs = torch.tensor(A[:, :20]), torch.tensor(np.sign(Y))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-signs * (rows @ x)).mean() + 0.5 * x.square().sum()

    start = torch.zeros(20, dtype=torch.float64)
    result = precond.minimize(loss, start, penalty=L1(0.01), method=block_descent(rule="gs", update=update), tol=1e-6)
    assert result.converged
    known = Logistic(A[:, :20], np.sign(Y), ridge=1.0)
    other = precond.minimize(known, start, penalty=L1(0.01), method=block_descent(rule="gs", update=update), tol=1e-6)
    np.testing.assert_allclose(other.x.numpy(), result.x.numpy(), atol=1e-5)
    with pytest.raises(IncompatibleError, match="curvature"):
        precond.minimize(loss, start, penalty=L1(0.01), method=block_descent(rule="gsl"))
