"""The polynomial preconditioner of Doikov and Rodomanov against its definition by traces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import precond
from precond.core import Evidence
from precond.operators import as_operator
from precond.preconditioners.symmetric_polynomial import SymmetricPolynomial
from tests.papers.linear_toys import symmetric


def applied(part, a):
    state = part.init(torch.zeros(1, len(a), dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(a)))
    health = part.refresh(state)
    return part.apply(state, torch.eye(len(a), dtype=torch.float64)).numpy(), health


def definition(b, tau):
    """Return ``P_tau`` by the paper's recursion with ``U_i = tr(B^i) I - B^i``."""
    eye, made = np.eye(len(b)), [np.eye(len(b))]
    for t in range(1, tau + 1):
        total = 0
        for i in range(1, t + 1):
            power = np.linalg.matrix_power(b, i)
            total = total + (-1) ** (i - 1) * made[t - i] @ (np.trace(power) * eye - power)
        made.append(total / t)
    return made[tau]


def condition(values, tau):
    """Return ``kappa`` of ``B P_tau`` from elementary symmetric polynomials of all eigenvalues but one."""

    def sigma(rest):
        return np.poly(-np.asarray(rest))[tau]

    lifted = [v * sigma(np.delete(values, j)) for j, v in enumerate(values)]
    return max(lifted) / min(lifted)


@pytest.mark.parametrize("tau", [0, 1, 2, 3, 4])
def test_is_the_definition_up_to_its_scale(tau):
    b = symmetric(np.geomspace(0.5, 20, 7))
    ours, _ = applied(SymmetricPolynomial(degree=tau), b)
    theirs = definition(b, tau)
    np.testing.assert_allclose(ours / np.trace(ours), theirs / np.trace(theirs), atol=1e-12)


def test_the_last_degree_is_the_inverse():
    b = symmetric(np.linspace(1, 3, 6))
    ours, _ = applied(SymmetricPolynomial(degree=5), b)
    inverse = np.linalg.inv(b)
    np.testing.assert_allclose(ours / np.trace(ours), inverse / np.trace(inverse), rtol=1e-8, atol=1e-10)


def test_two_outliers_are_cut_off_and_a_tail_is_not():
    """The headline, with numbers from the formula; and a spectrum without gaps at the top, where nothing is gained."""
    outliers = np.concatenate([[1e4, 1e3], np.linspace(1, 2, 98)])
    tail = np.geomspace(1, 1e-4, 100)
    seen = {}
    for name, values in (("outliers", outliers), ("tail", tail)):
        b = symmetric(values)
        for tau in range(4):
            p, health = applied(SymmetricPolynomial(degree=tau), b)
            assert health.failures == 0
            after = np.sort(np.linalg.eigvals(b @ p).real)
            seen[name, tau] = after[-1] / after[0]
            assert seen[name, tau] == pytest.approx(condition(values, tau), rel=1e-5)
    assert seen["outliers", 0] == pytest.approx(1e4, rel=1e-6)
    assert seen["outliers", 2] < 140
    assert seen["tail", 3] > 7000


def test_estimated_traces_serve_as_well():
    n = 400
    values = np.concatenate([[3e3, 1e3], np.linspace(1, 2, n - 2)])
    b = symmetric(values)
    p, health = applied(SymmetricPolynomial(degree=2), b)
    assert health.failures == 0
    after = np.sort(np.linalg.eigvals(b @ p).real)
    assert after[0] > 0
    assert after[-1] / after[0] < 3e3 / 5
    counts = [
        precond.solve(b, np.ones(n), method="cg", preconditioner=part, rtol=1e-10).iterations
        for part in ("identity", SymmetricPolynomial(degree=2))
    ]
    assert counts[1] < counts[0]


def test_a_degree_that_the_traces_cannot_carry_is_lowered():
    values = np.concatenate([[1e6], np.full(299, 1e-6)])
    _, health = applied(SymmetricPolynomial(degree=3, probes=2), symmetric(values))
    assert "degree" in health.detail
    assert health.failures == 0


def test_sigma_is_elementary_symmetric():
    """The check of the checker: ``np.poly`` gives the sums over all products."""
    values = [1.0, 2.0, 5.0, 7.0]
    for t in range(4):
        want = sum(np.prod(c) for c in itertools.combinations(values, t))
        assert np.poly(-np.asarray(values))[t] == pytest.approx(want)
