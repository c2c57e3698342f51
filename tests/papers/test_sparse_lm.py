"""Levenberg-Marquardt by sparse factorizations is Levenberg-Marquardt."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

import precond
from precond.core import Evidence, Operator, OperatorTraits
from precond.operators.gauss_newton import GaussNewton
from precond.preconditioners.dense_inverse import DenseInverse
from precond.preconditioners.sparse_inverse import SparseInverse


def _banded(x: Tensor) -> Tensor:
    return torch.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1], 0.1 * x[::3].sin()])


def test_its_iterates_are_those_of_the_dense_method():
    start = torch.linspace(-1.5, 1.5, 40).double()
    found = [
        precond.least_squares(_banded, start, method=method, max_iterations=12)
        for method in ("sparse-lm", "levenberg-marquardt")
    ]
    torch.testing.assert_close(found[0].x, found[1].x, rtol=1e-6, atol=1e-8)
    sparse, dense = (np.array(each.history) for each in found)
    assert len(sparse) == len(dense) == 13


@pytest.mark.parametrize("shift", [0.0, 1e-3, 7.0])
def test_it_inverts_what_the_dense_inverse_does(shift: float):
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(30, 12, dtype=torch.float64, generator=generator) * torch.logspace(-3, 3, 12).double()
    second = first * torch.rand(12, dtype=torch.float64, generator=generator) * 2
    v = torch.randn(2, 12, dtype=torch.float64, generator=generator)
    states = []
    for part in (SparseInverse(), DenseInverse("more")):
        state = part.init(v)
        for jacobian in (first, second):
            part.observe(state, Evidence(operator=GaussNewton(jacobian)))
            assert part.refresh(state).failures == 0
        states.append((part.apply(state, v, shift=shift), part.metric(state, v)))
    for mine, other in zip(*states, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-12)


def test_columns_that_depend_on_one_another_are_no_trouble():
    rows = scipy.sparse.csr_array(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    result = precond.least_squares(
        lambda x: np.exp(rows @ x) - np.array([2.0, 4.0, 1.0]), np.zeros(3), method="sparse-lm",
        jac=lambda x: scipy.sparse.diags_array(np.exp(rows @ x)) @ rows,
    )  # fmt: skip
    assert result.converged
    assert float(result.certificate.extra["loss"]) < 1e-16
    part = SparseInverse()
    state = part.init(torch.ones(1, 3).double())
    part.observe(state, Evidence(operator=_Indefinite()))
    part.refresh(state)
    assert bool(torch.isfinite(part.apply(state, torch.ones(1, 3).double())).all())


class _Indefinite(Operator):
    shape, dtype, device = (3, 3), torch.float64, torch.device("cpu")
    traits = OperatorTraits(symmetric=True)

    def matvec(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0, -1.0, 0.0]).double()
