"""Which form the Newton system of a program takes, and that all forms are one system."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from precond.operators import as_operator
from precond.operators.function import FunctionOperator
from precond.programs.newton import DenseNewton, SparseNewton
from precond.programs.projected import ProjectedNewton
from precond.programs.systems import newton_system

F64 = torch.float64


def parts(seed: int = 0, n: int = 7, m: int = 2):
    rng = np.random.default_rng(seed)
    hessian = rng.normal(size=(n, n))
    return hessian + hessian.T + 2 * n * np.eye(n), rng.normal(size=(m, n)), torch.tensor(rng.uniform(1, 2, n))


def products(matrix: np.ndarray) -> FunctionOperator:
    dense = torch.from_numpy(matrix)
    return FunctionOperator(lambda v: v @ dense.mT, matrix.shape, rmatvec=lambda v: v @ dense, symmetric=True)


@pytest.mark.parametrize(
    ("hessian_is_sparse", "jacobian_is_sparse", "dense", "form"),
    [
        (True, True, 100, SparseNewton),
        (True, False, 100, DenseNewton),
        (False, True, 100, DenseNewton),
        (False, False, 100, DenseNewton),
        (False, False, 9, DenseNewton),
        (False, True, 8, ProjectedNewton),
        (False, False, 8, ProjectedNewton),
    ],
)
def test_sparse_where_both_have_entries_else_dense_where_small(hessian_is_sparse, jacobian_is_sparse, dense, form):
    h, g, diagonal = parts()
    hessian = as_operator(scipy.sparse.csr_array(h)) if hessian_is_sparse else products(h)
    jacobian = as_operator(scipy.sparse.csr_array(g)) if jacobian_is_sparse else as_operator(g)
    rows, right = torch.tensor([0.5, 3.0], dtype=F64), torch.arange(1.0, 10.0, dtype=F64)
    system = newton_system(hessian, jacobian, diagonal, rows, 0.7, right, dense)
    assert isinstance(system, form)

    scaled = np.diag([0.5, 3.0]) @ g
    saddle = np.block([[0.7 * h + np.diag(diagonal), scaled.T], [scaled, np.zeros((2, 2))]])
    attempt = system.attempt(0.0, 0.0)
    assert attempt is not None
    np.testing.assert_allclose(attempt.solve(right), np.linalg.solve(saddle, right.numpy()), rtol=1e-7)
