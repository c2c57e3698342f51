"""Sketch and solve with errors bounded entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.operators import as_operator
from precond.sketches import SRHT, CountSketch, Gaussian
from precond.solvers.systems.sketch_solve import infinity_size, sketch_and_solve

ROWS, N, SIZE = 2048, 16, 256
rng = np.random.default_rng(0)
incoherent = rng.standard_normal((ROWS, N))
coherent = np.eye(ROWS, N) + 1e-3 * rng.standard_normal((ROWS, N))


def error(a, b, sketch, seed):
    """Return ``||x' - x||_inf sqrt(n) / (||A x - b|| ||A^+||)``."""
    x = np.linalg.lstsq(a, b, rcond=None)[0]
    ours = sketch_and_solve(as_operator(a), torch.from_numpy(b)[None], sketch, SIZE, seed=seed)[0].numpy()
    size = np.linalg.norm(a @ x - b) / np.linalg.svd(a, compute_uv=False)[-1]
    return np.abs(ours - x).max() * N**0.5 / size


def test_solves_the_sketched_problem():
    b = rng.standard_normal(ROWS)
    s = SRHT().draw(ROWS, 100, seed=4).apply(torch.eye(ROWS, dtype=torch.float64)).numpy()
    want = np.linalg.lstsq(s @ incoherent, s @ b, rcond=None)[0]
    got = sketch_and_solve(as_operator(incoherent), torch.from_numpy(b)[None], SRHT(), 100, seed=4)
    np.testing.assert_allclose(got[0], want, rtol=1e-9)


@pytest.mark.parametrize("matrix", ["incoherent", "coherent"])
def test_every_entry_is_near_with_dense_sketches_and_not_with_sparse_ones(matrix):
    """The headline: the 90 % quantile is of the order ``sqrt(n / size)``, but for CountSketch on few coordinates."""
    a, b = globals()[matrix], rng.standard_normal(ROWS)
    quantile = {
        type(s).__name__: np.quantile([error(a, b, s, seed) for seed in range(20)], 0.9)
        for s in (SRHT(), Gaussian(), CountSketch())
    }
    allowed = 4 * (N / SIZE) ** 0.5
    assert quantile["SRHT"] < allowed
    assert quantile["Gaussian"] < allowed
    assert (quantile["CountSketch"] > 2 * quantile["SRHT"]) == (matrix == "coherent")


def test_the_size_of_the_theorem():
    assert infinity_size(10**9, 10, 0.5) == int(np.ceil(10 * np.log(1e11) ** 3 / 0.25))
    assert infinity_size(1000, 10, 0.1) == 1000
    for bad in ((0.0, 0.1), (0.1, 1.0)):
        with pytest.raises(BadInputError):
            infinity_size(100, 2, *bad)
    with pytest.raises(BadInputError, match="cannot tell"):
        sketch_and_solve(as_operator(incoherent), torch.zeros(1, ROWS).double(), SRHT(), 5)


@pytest.mark.parametrize("sketch", [SRHT(), Gaussian(), CountSketch()])
def test_an_error_too_small_for_any_sketch_is_kept_all_the_same(sketch) -> None:
    a, b = np.eye(300, 6) + 1e-3 * rng.standard_normal((300, 6)), rng.standard_normal(300)
    x = np.linalg.lstsq(a, b, rcond=None)[0]
    bound = 1e-3 / 6**0.5 * np.linalg.norm(a @ x - b) * np.linalg.norm(np.linalg.pinv(a), 2)
    size = infinity_size(300, 6, 1e-3)
    ours = sketch_and_solve(as_operator(a), torch.from_numpy(b)[None], sketch, size)[0].numpy()
    assert np.abs(ours - x).max() <= bound


def test_of_solutions_to_dependent_columns_it_takes_the_shortest() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((200, 6))
    matrix[:, 5] = matrix[:, 0] - 2 * matrix[:, 3]
    b = matrix @ rng.standard_normal(6)  # sketched or not, the same solutions
    found = sketch_and_solve(as_operator(matrix), torch.from_numpy(b)[None], SRHT(), 40)[0].numpy()
    np.testing.assert_allclose(found, np.linalg.pinv(matrix) @ b, rtol=0, atol=1e-10)
    nothing = sketch_and_solve(as_operator(np.zeros((200, 3))), torch.from_numpy(b)[None], SRHT(), 40)
    assert not nothing.any()
