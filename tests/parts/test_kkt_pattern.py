"""Sparse Newton systems whose places and order of elimination are found once for many."""

import numpy as np
import pytest
import scipy.sparse
import torch

from precond.math.sparse.kkt_pattern import Patterns
from precond.programs.newton import SparseNewton


@pytest.mark.parametrize("dense_row", [False, True])
def test_systems_with_one_pattern_are_solved_in_one_order(dense_row: bool) -> None:
    n, patterns, random = 400, Patterns(), np.random.default_rng(0)
    chain = scipy.sparse.diags_array([np.ones(n - 1), np.ones(n)], offsets=[1, 0])
    rows = scipy.sparse.csr_array(chain.tocsr()[::4])
    if dense_row:
        rows = scipy.sparse.csr_array(scipy.sparse.vstack([rows, random.normal(size=(1, n))]))
    seen = []
    for scale in (1.0, 3.0):
        hessian = scipy.sparse.csr_array(scale * scipy.sparse.diags_array([np.ones(n - 1), np.full(n, 4.0)],
                                                                         offsets=[1, 0]))  # fmt: skip
        diagonal = torch.from_numpy(random.uniform(size=n))
        system = SparseNewton(hessian, rows, diagonal, patterns)
        seen.append(system.pattern)
        solver = system.attempt(0.0, 0.0)
        assert solver is not None
        b = random.normal(size=n + rows.shape[0])
        half = (hessian + hessian.T).toarray() / 2 + np.diag(diagonal.numpy())
        matrix = np.block([[half, rows.toarray().T], [rows.toarray(), np.zeros((rows.shape[0],) * 2)]])
        assert np.allclose(solver.solve(torch.from_numpy(b)).numpy(), np.linalg.solve(matrix, b), atol=1e-6)
        assert solver.factors.order is not None, "pivots from the diagonal were good enough"
        assert system.attempt(-20 * scale, 0.0) is None
    assert seen[0] is seen[1]
    order = seen[0]._order[0]
    assert not dense_row or order[-1] == n + rows.shape[0] - 1
    other = scipy.sparse.csr_array(scipy.sparse.eye_array(n))
    assert SparseNewton(other, rows, torch.ones(n, dtype=torch.float64), patterns).pattern is not seen[0]


@pytest.mark.parametrize("block", ["places in H", "rows of H", "places in J", "rows of J"])
def test_another_pattern_with_as_many_entries_is_told_apart(block: str) -> None:
    def entries(rows: list[int], columns: list[int], height: int) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(height, 4))

    patterns = Patterns()
    first = entries([0, 1, 2, 3], [0, 1, 2, 3], 4), entries([0, 1], [0, 2], 2)
    before = patterns.of(*first)
    assert patterns.of(*(blocks.copy() for blocks in first)) is before
    other = {
        "places in H": (entries([0, 1, 2, 3], [0, 1, 3, 3], 4), first[1]),
        "rows of H": (entries([0, 1, 1, 3], [0, 1, 2, 3], 4), first[1]),
        "places in J": (first[0], entries([0, 1], [0, 3], 2)),
        "rows of J": (first[0], entries([0, 0], [0, 2], 2)),
    }[block]
    found = patterns.of(*other)
    assert found is not before
    dense = found.assemble(*other, np.zeros(4)).toarray()
    h, j = (blocks.toarray() for blocks in other)
    assert np.array_equal(dense, np.block([[(h + h.T) / 2, j.T], [j, np.zeros((2, 2))]]))
