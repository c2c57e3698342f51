"""Balanced deflation against dense projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Evidence
from precond.operators import as_operator
from precond.preconditioners.deflation import Aggregates, Deflation, Given
from precond.preconditioners.identity import Identity
from precond.preconditioners.jacobi import Jacobi
from tests.papers.linear_toys import symmetric


def applied(part, a):
    state = part.init(torch.zeros(1, len(a), dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(a)))
    part.refresh(state)
    return part.apply(state, torch.eye(len(a), dtype=torch.float64)).numpy().T


def test_is_the_dense_formula():
    rng = np.random.default_rng(0)
    a, w = symmetric(np.geomspace(0.01, 5, 14)), rng.standard_normal((14, 3))
    q = w @ np.linalg.inv(w.T @ a @ w) @ w.T
    m = np.diag(1 / np.diag(a))
    want = q + (np.eye(14) - q @ a) @ m @ (np.eye(14) - a @ q)
    np.testing.assert_allclose(applied(Deflation(Given(torch.from_numpy(w)), Jacobi()), a), want, rtol=1e-9, atol=1e-9)


def test_deflated_eigenvalues_become_one_and_the_others_stay():
    values = np.concatenate([[1e-6, 1e-5, 1e-4], np.linspace(1, 2, 27)])
    a = symmetric(values)
    w = np.linalg.eigh(a)[1][:, :3]
    p = applied(Deflation(Given(torch.from_numpy(w)), Identity()), a)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(p @ a).real), np.sort([1, 1, 1, *values[3:]]), rtol=1e-6)
    b = np.random.default_rng(1).standard_normal(30)
    part = Deflation(Given(torch.from_numpy(w)), Identity())
    counts = [precond.solve(a, b, method="cg", preconditioner=p).iterations for p in ("identity", part)]
    assert counts[1] < counts[0] / 2


def test_groups_of_unknowns_help_on_an_elliptic_problem():
    a = np.diag(np.full(400, 2.0)) - np.diag(np.ones(399), 1) - np.diag(np.ones(399), -1)
    b = np.random.default_rng(2).standard_normal(400)
    counts = [
        precond.solve(a, b, method="cg", preconditioner=part).iterations
        for part in ("jacobi", Deflation(Aggregates(40), Jacobi()))
    ]
    assert counts[1] < counts[0] / 4


def test_dependent_vectors_do_no_harm():
    a, w = symmetric(np.linspace(1, 9, 8)), np.ones((8, 2))
    p = applied(Deflation(Given(torch.from_numpy(w)), Identity()), a)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p @ a @ w, w, atol=1e-9)


def test_a_subspace_of_another_length_is_refused():
    part = Deflation(Given(torch.ones(5, 1)), Identity())
    with pytest.raises(BadInputError, match="vectors in columns"):
        precond.solve(np.eye(4), np.ones(4), method="cg", preconditioner=part)
