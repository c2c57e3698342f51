"""Stochastic Lanczos quadrature against dense spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.math.krylov.lanczos import lanczos
from precond.math.krylov.quadrature import lanczos_quadrature
from tests.papers.linear_toys import symmetric

F64 = torch.float64
VALUES = np.geomspace(0.1, 10, 60)
A = torch.from_numpy(symmetric(VALUES))


def test_the_lanczos_process_makes_a_tridiagonal_matrix():
    start = torch.randn(3, 60, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = lanczos(lambda x: x @ A, start, 25)
    for row in range(3):
        q = found.basis[row]
        torch.testing.assert_close(q @ q.T, torch.eye(25, dtype=F64), rtol=0, atol=1e-12)
        t = q @ A @ q.T
        torch.testing.assert_close(t.diagonal(), found.diagonal[row])
        torch.testing.assert_close(t.diagonal(1), found.beside[row])


def test_an_invariant_subspace_ends_a_row_alone():
    a = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64))
    start = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=F64)
    found = lanczos(lambda x: x @ a, start, 4)
    assert found.beside[0, 1] == 0
    values = found.ritz()[0]
    torch.testing.assert_close(values[1], torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64))


def test_is_exact_for_polynomials_up_to_degree_2m_minus_1():
    m = 5
    quadrature = lanczos_quadrature(lambda x: x @ A, 60, probes=1, steps=m, seed=3)
    v = torch.randint(0, 2, (1, 60), generator=torch.Generator().manual_seed(3)).mul_(2).sub_(1).double()
    for k in range(2 * m):
        want = float(v @ torch.linalg.matrix_power(A, k) @ v.T)
        assert quadrature.trace(lambda t, k=k: t**k)[0] == pytest.approx(want, rel=1e-9)


def test_the_trace_of_the_logarithm_lies_within_its_error():
    estimate, error = lanczos_quadrature(lambda x: x @ A, 60, probes=40, steps=30).trace(torch.log)
    true = float(np.log(VALUES).sum())
    assert abs(estimate - true) < 4 * error
    assert error < 5


def test_the_error_of_one_probe_is_unknown_and_weights_sum_to_one():
    quadrature = lanczos_quadrature(lambda x: x @ A, 60, probes=1, steps=60)
    assert quadrature.trace(torch.exp)[1] == float("inf")
    assert float(quadrature.weights.sum()) == pytest.approx(1)
    grid = torch.linspace(-5, 16, 2001, dtype=F64)
    assert float(torch.trapezoid(quadrature.density(grid, 0.3), grid)) == pytest.approx(1, abs=1e-6)


def test_more_steps_come_nearer_to_the_density():
    """Distance of the distribution functions of a Wishart matrix, at three numbers of steps."""
    f = torch.randn(300, 450, generator=torch.Generator().manual_seed(1), dtype=F64)
    w = f @ f.T / 450 + 0.01 * torch.eye(300, dtype=F64)
    true = torch.linalg.eigvalsh(w)
    grid = torch.linspace(0, 5, 2000, dtype=F64)
    distances = []
    for steps in (5, 10, 20):
        quadrature = lanczos_quadrature(lambda x: x @ w, 300, probes=10, steps=steps)
        ours = ((quadrature.nodes.reshape(-1, 1) <= grid) * quadrature.weights.reshape(-1, 1)).sum(0) / 10
        exact = (true.reshape(-1, 1) <= grid).double().mean(0)
        distances.append(float(torch.trapezoid((ours - exact).abs(), grid)))
    assert distances[2] < distances[1] < distances[0]
    assert distances[2] < 0.08


@pytest.mark.parametrize("steps", [4, 6, 12])
def test_the_error_knows_of_too_few_steps(steps):
    values = torch.linspace(1e-3, 1, 400, dtype=F64)  # a diagonal, of which every sign vector says the same
    estimate, error = lanczos_quadrature(lambda x: x * values, 400, probes=8, steps=steps).trace(torch.log)
    assert 0 < abs(estimate - float(values.log().sum())) < error < 150
    three = values[::160].repeat_interleave(100)  # three values: the rule is exact
    estimate, error = lanczos_quadrature(lambda x: x * three, 300, probes=8, steps=steps).trace(torch.log)
    assert estimate == pytest.approx(float(three.log().sum()), rel=1e-9)
    assert error < 1e-8


def test_what_no_node_has_come_near_is_not_estimated():
    """``1 / t`` at a condition of 1e6: nothing is said of the error without a bound of the spectrum."""
    values = torch.logspace(-6, 0, 400, dtype=F64)
    true = float((1 / values).sum())
    for steps in (3, 5, 20):
        quadrature = lanczos_quadrature(lambda x: x * values, 400, probes=8, steps=steps)
        assert quadrature.trace(torch.reciprocal)[1] == float("inf")
        estimate, error = quadrature.trace(torch.reciprocal, end=5e-7)
        assert abs(estimate - true) <= error < 2 * estimate


def test_a_function_that_is_resolved_has_a_finite_error():
    values = torch.linspace(0.5, 2, 400, dtype=F64)
    for steps in (20, 60):
        quadrature = lanczos_quadrature(lambda x: x * values, 400, probes=8, steps=steps)
        for function in (torch.reciprocal, torch.log, torch.exp):
            estimate, error = quadrature.trace(function)
            assert estimate == pytest.approx(float(function(values).sum()), rel=1e-9)
            assert error < 1e-5


@pytest.mark.parametrize("steps", [2, 5, 9])
@pytest.mark.parametrize(
    ("function", "end"),
    [
        (torch.reciprocal, 0.002),
        (torch.log, 0.009),
        (torch.sqrt, 0.001),
        (lambda t: (-t).exp(), -1.0),
        (torch.exp, 3.5),
    ],
)
def test_a_bound_of_the_spectrum_encloses_the_trace(function, end, steps):
    """Each probe of a diagonal matrix has the true trace, which lies between the two rules."""
    values = torch.logspace(-2, 0.5, 300, dtype=F64)
    true = float(function(values).sum())
    quadrature = lanczos_quadrature(lambda x: x * values, 300, probes=3, steps=steps)
    estimate, error = quadrature.trace(function, end=end)
    assert abs(estimate - true) <= error + 1e-14 * abs(true)
    assert error == pytest.approx(abs(quadrature.trace(function)[0] - estimate), rel=1e-6, abs=1e-12 * abs(true))


def test_a_node_lies_at_the_bound_and_all_that_was_exact_stays_so():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64).repeat_interleave(20)
    quadrature = lanczos_quadrature(lambda x: x * values, 80, probes=3, steps=3)
    more = quadrature._to(0.5)
    torch.testing.assert_close(more.nodes[:, 0], torch.full((3,), 0.5, dtype=F64))
    for k in range(7):  # of degree up to twice the steps
        assert more.trace(lambda t, k=k: t**k)[0] == pytest.approx(float((values**k).sum()), rel=1e-9)
    ended = lanczos_quadrature(lambda x: x * values, 80, probes=3, steps=9)
    assert ended.trace(torch.log, end=0.5)[0] == pytest.approx(float(values.log().sum()), rel=1e-9)
    with pytest.raises(ValueError, match="within the spectrum"):
        quadrature.trace(torch.log, end=2.0)


def test_nothing_to_sample_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        lanczos_quadrature(lambda x: x, 4, probes=0)
    with pytest.raises(ValueError, match="finite"):
        lanczos_quadrature(lambda x: x * float("nan"), 4)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-600, 2.0**600, 2.0**1000])
def test_the_unit_of_the_operator_does_not_matter(scale):
    plain = lanczos_quadrature(lambda x: x @ A, 60, steps=20)
    scaled = lanczos_quadrature(lambda x: (x @ A) * scale, 60, steps=20)
    torch.testing.assert_close(scaled.nodes / scale, plain.nodes)
    for end in (None, 0.05):
        want = plain.trace(torch.log, end=end)
        found = scaled.trace(lambda t: (t / scale).log(), end=end and end * scale)
        assert found == pytest.approx(want, rel=1e-8)


def test_a_function_without_a_value_and_a_density_without_a_width_are_refused():
    found = lanczos_quadrature(lambda x: x @ -A, 60, steps=10)
    with pytest.raises(ValueError, match="no value at -"):
        found.trace(torch.log)
    with pytest.raises(ValueError, match="width"):
        found.density(torch.zeros(1), 0.0)
