"""Determinantal and volume sampling against the determinants that define them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.sketches.volume import conditioned, independent_points, projection_dpp, repeated_dpp, volume_points

F64 = torch.float64


def legendre(m, points=1000):
    """Return Legendre polynomials at midpoints of ``[-1, 1]``, orthonormal on the points."""
    x = -1 + (2 * torch.arange(points, dtype=F64) + 1) / points
    return torch.linalg.qr(torch.from_numpy(np.polynomial.legendre.legvander(x.numpy(), m - 1))).Q, x


def test_a_projection_process_draws_by_squared_determinants():
    basis = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)).Q
    counts, draws = dict.fromkeys(itertools.combinations(range(5), 2), 0), 3000
    for seed in range(draws):
        counts[tuple(sorted(projection_dpp(basis, seed=seed).rows.tolist()))] += 1
    for pair, count in counts.items():
        probability = float(torch.linalg.det(basis[list(pair)])) ** 2
        assert count / draws == pytest.approx(probability, abs=4 * (probability / draws) ** 0.5 + 1e-3)


@pytest.mark.parametrize("times", [2, 3])
def test_volume_sampling_has_the_inverse_moment_of_its_theory(times):
    """``E tr(G^-1) / m = n / (n - m + 1)``."""
    basis, _ = legendre(6, 300)
    n = 6 * times
    traces = [float(torch.linalg.inv(volume_points(basis, n, seed=s).gram(basis)).trace()) / 6 for s in range(500)]
    assert np.mean(traces) == pytest.approx(n / (n - 5), rel=0.08)


def test_volume_sampling_joins_a_process_and_independent_points_in_random_order():
    """The third point meets one of the first two with probability ``m sum nu^2``, and is anywhere among them."""
    basis = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)).Q
    drawn = np.array([volume_points(basis, 3, seed=seed).rows.tolist() for seed in range(1500)])
    pairs = np.array([drawn[:, i] == drawn[:, j] for i, j in ((0, 1), (0, 2), (1, 2))]).mean(1)
    nu = basis.square().sum(1) / 2
    np.testing.assert_allclose(pairs.sum(), float(2 * nu.square().sum()), atol=0.05)
    np.testing.assert_allclose(pairs, pairs.mean(), atol=0.04)


def test_rows_that_repeat_or_vanish_are_drawn_by_their_determinants():
    matrix = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=F64)
    matrix[1], matrix[3], matrix[5] = matrix[0], matrix[0], 0
    basis = torch.linalg.qr(matrix).Q
    drawn = [frozenset(projection_dpp(basis, seed=seed).rows.tolist()) for seed in range(600)]
    assert set(drawn) == {frozenset((twin, 2, 4)) for twin in (0, 1, 3)}
    for twin in (0, 1, 3):  # of the same determinant
        assert drawn.count(frozenset((twin, 2, 4))) == pytest.approx(200, abs=50)
    assert sorted(projection_dpp(torch.eye(4, dtype=F64)).rows.tolist()) == [0, 1, 2, 3]


def test_fits_weigh_their_points():
    basis, x = legendre(4, 200)
    points, values = independent_points(basis, 9), x.abs()
    scale = points.weights.sqrt().numpy()
    want = np.linalg.lstsq(scale[:, None] * basis[points.rows].numpy(), scale * values[points.rows].numpy())[0]
    np.testing.assert_allclose(points.fit(basis, values[points.rows]), want, rtol=1e-9)


def test_volume_sampling_is_unbiased():
    basis, x = legendre(4, 200)
    values = x.exp()
    fits = [points.fit(basis, values[points.rows]) for points in (volume_points(basis, 7, seed=s) for s in range(600))]
    np.testing.assert_allclose(torch.stack(fits).mean(0), basis.T @ values, atol=0.05)


def test_repeated_processes_are_better_conditioned_than_independent_points():
    """The headline: the median condition number of the Gram matrix at twice as many points as functions."""
    basis, _ = legendre(10)

    def median(draw):
        return np.median([float(torch.linalg.cond(draw(s).gram(basis))) for s in range(40)])

    independent = median(lambda s: independent_points(basis, 20, seed=s))
    volume = median(lambda s: volume_points(basis, 20, seed=s))
    repeated = median(lambda s: repeated_dpp(basis, 2, seed=s))
    assert repeated < 7 < volume < 15 < independent


def test_draws_can_be_conditioned_on_a_good_gram_matrix():
    basis, _ = legendre(5, 200)

    def draw(seed):
        return repeated_dpp(basis, 3, seed=seed)

    gaps = [
        float(torch.linalg.matrix_norm(draw(s).gram(basis) - torch.eye(5, dtype=F64), 2)) for s in range(0, 9000, 1000)
    ]
    worst = int(np.argmax(gaps[:-1]))
    points = conditioned(draw, basis, delta=0.99 * gaps[worst], seed=1000 * worst)
    assert torch.equal(points.rows, draw(1000 * (worst + 1)).rows)
    with pytest.raises(BadInputError, match="draw more points"):
        conditioned(lambda seed: repeated_dpp(basis, 1, seed=seed), basis, delta=1e-3, limit=3)


def test_independent_points_follow_the_leverage():
    basis, _ = legendre(5, 50)
    rows = independent_points(basis, 20000).rows
    counts = torch.bincount(rows, minlength=50).double() / 20000
    np.testing.assert_allclose(counts, basis.square().sum(1) / 5, atol=0.006)


def test_bad_input_is_refused():
    basis, _ = legendre(5, 50)
    with pytest.raises(BadInputError, match="orthonormal"):
        projection_dpp(1.001 * basis)
    with pytest.raises(BadInputError, match="at least as many"):
        volume_points(basis, 4)


def test_the_deviation_that_is_asked_for_is_that_of_eigenvalues():
    basis, _ = legendre(5)
    first = independent_points(basis, 60, seed=3)
    gap = first.gram(basis) - torch.eye(5, dtype=F64)
    delta = 1.001 * float(torch.linalg.matrix_norm(gap, 2))
    assert delta < min(1.0, float(gap.norm()))
    found = conditioned(lambda seed: independent_points(basis, 60, seed=seed), basis, delta=delta, limit=1, seed=3)
    assert torch.equal(found.rows, first.rows)


def test_a_fit_takes_the_values_at_the_points_drawn():
    basis, x = legendre(3)
    points = volume_points(basis, 9)
    for values in (x, x[points.rows].float(), x[points.rows].unsqueeze(1)):
        with pytest.raises(BadInputError, match="9 points drawn"):
            points.fit(basis, values)
    with pytest.raises(BadInputError, match="from_numpy"):
        independent_points(basis.numpy(), 5)
    with pytest.raises(BadInputError, match="whole number"):
        volume_points(basis, 20.5)
