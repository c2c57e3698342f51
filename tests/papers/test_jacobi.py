"""Jacobi is a division by the diagonal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import Evidence, IncompatibleError
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.jacobi import Jacobi
from tests.papers.linear_toys import symmetric

rng = np.random.default_rng(5)


def ready(part, a, batch=2):
    operator = as_operator(a)
    state = part.init(torch.zeros(batch, operator.shape[0], dtype=operator.dtype))
    part.observe(state, Evidence(operator=operator))
    return state, part.refresh(state)


@pytest.mark.parametrize("absolute", [True, False])
def test_divides_by_the_diagonal(absolute):
    a = rng.standard_normal((5, 5))
    part = Jacobi(absolute=absolute)
    state, health = ready(part, a)
    v = rng.standard_normal((2, 5))
    d = np.abs(np.diag(a)) if absolute else np.diag(a)
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v)), v / d, rtol=1e-14)
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v), shift=0.3), v / (d + 0.3), rtol=1e-14)
    assert health.detail == ""


def test_a_zero_on_the_diagonal_is_replaced_and_reported():
    state, health = ready(Jacobi(), np.array([[0.0, 1.0], [1.0, 2.0]]))
    assert "1 zeros" in health.detail
    np.testing.assert_allclose(Jacobi().apply(state, torch.ones(2, 2, dtype=torch.float64))[0], [1.0, 0.5])


def test_products_alone_do_unless_the_diagonal_is_missing():
    like = torch.zeros(1, 3, dtype=torch.float64)
    diagonal = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    part, state = Jacobi(), Jacobi().init(like)
    part.observe(state, Evidence(operator=FunctionOperator(torch.clone, (3, 3), diagonal=diagonal)))
    part.refresh(state)
    np.testing.assert_allclose(part.apply(state, like + 1)[0], [1.0, 0.5, 0.25])
    with pytest.raises(IncompatibleError, match="identity"):
        part.observe(state, Evidence(operator=FunctionOperator(torch.clone, (3, 3))))


def test_undoes_bad_scaling():
    scale = np.geomspace(1, 1e3, 40)
    a = scale[:, None] * symmetric(np.linspace(1, 5, 40)) * scale
    b = rng.standard_normal(40)
    counts = {
        p: precond.solve(a, b, method="cg", preconditioner=p, rtol=1e-6).iterations for p in ("jacobi", "identity")
    }
    assert counts["jacobi"] * 3 < counts["identity"]
