"""Lewis weights, leverage and sampling of rows against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.sketches import SparseSign
from precond.sketches.leverage import (
    inclusion_probabilities,
    leverage_scores,
    lewis_weights,
    root_leverage_sample,
    sample_rows,
    sensitivity_bounds,
)

F64 = torch.float64
N, ROWS = 8, 4000


def heavy(rows=ROWS, seed=0):
    a = torch.randn(rows, N, generator=torch.Generator().manual_seed(seed), dtype=F64)
    a[:N] = 60 * torch.eye(N, dtype=F64)
    return a


def distortion(a, sample, p, seed=0):
    """Return the largest relative error of ``||A x||_p^p`` over random and coordinate directions."""
    x = torch.cat(
        [torch.randn(200, N, generator=torch.Generator().manual_seed(seed), dtype=F64), torch.eye(N, dtype=F64)]
    )
    true = (a @ x.T).abs().pow(p).sum(0)
    return float(((sample.apply(a) @ x.T).abs().pow(p).sum(0) / true - 1).abs().max())


def test_leverage_is_its_definition():
    a = heavy(60)[:, :5]
    want = np.einsum("ij,jk,ik->i", a, np.linalg.pinv((a.T @ a).numpy()), a)
    np.testing.assert_allclose(leverage_scores(a), want, rtol=1e-9)
    dependent = torch.cat([a, a[:, :1] + a[:, 1:2]], 1)
    np.testing.assert_allclose(leverage_scores(dependent), want, rtol=1e-8)
    sketch = SparseSign(8).draw(60, 40).apply(a)
    rough = leverage_scores(a, torch.linalg.qr(sketch).R)
    present = want > 0
    assert float((rough[present] / torch.from_numpy(want[present])).log().abs().max()) < 1.5


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 6.0])
def test_lewis_weights_are_a_fixed_point(p):
    """``w_i = tau_i(W^(1/2 - 1/p) A)``, by dense algebra, and they sum to the rank."""
    a = heavy(400)
    w = lewis_weights(a, p).numpy()
    scaled = w[:, None] ** (0.5 - 1 / p) * a.numpy()
    tau = np.einsum("ij,jk,ik->i", scaled, np.linalg.inv(scaled.T @ scaled), scaled)
    np.testing.assert_allclose(w, tau, rtol=1e-7)
    assert w.sum() == pytest.approx(N)


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
def test_lewis_sampling_keeps_norms_and_uniform_sampling_does_not(p):
    """The headline, with 400 rows of 4000, the median of several draws."""
    a = heavy()
    w, uniform = lewis_weights(a, p), torch.ones(ROWS, dtype=F64)
    ours = np.median([distortion(a, sample_rows(w, 400, p, seed=s), p) for s in range(9)])
    theirs = np.median([distortion(a, sample_rows(uniform, 400, p, seed=s), p) for s in range(9)])
    assert ours < 0.35
    assert theirs > 1.5 * ours


def test_sampling_is_unbiased():
    a, p = heavy(200), 1.5
    scores = lewis_weights(a, p)
    x = torch.ones(N, dtype=F64)
    mean = np.mean([float((sample_rows(scores, 40, p, seed=s).apply(a) @ x).abs().pow(p).sum()) for s in range(400)])
    assert mean == pytest.approx(float((a @ x).abs().pow(p).sum()), rel=0.03)


def test_probabilities_sum_to_the_size_and_stop_at_one():
    scores = torch.tensor([100.0, 1.0, 2.0, 0.0, 1.0], dtype=F64)
    q = inclusion_probabilities(scores, 3)
    torch.testing.assert_close(q, torch.tensor([1.0, 0.5, 1.0, 0.0, 0.5], dtype=F64))
    assert inclusion_probabilities(scores, 9).tolist() == [1, 1, 1, 0, 1]
    assert sample_rows(scores, 9, 2.0).rows.tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_sensitivities_lie_within_their_bounds(p):
    a = heavy(40)[:, :2]
    angles = torch.linspace(0, torch.pi, 4001, dtype=F64)
    directions = torch.stack([angles.cos(), angles.sin()])
    ratios = (a @ directions).abs().pow(p) / (a @ directions).abs().pow(p).sum(0)
    low, high = sensitivity_bounds(a, p)
    sensitivity = ratios.max(1).values
    assert bool((low <= sensitivity * 1.001).all())
    assert bool((sensitivity <= high * 1.001).all())
    assert bool((high <= 1).all())
    tau = torch.from_numpy(np.einsum("ij,jk,ik->i", a, np.linalg.inv((a.T @ a).numpy()), a)) ** (p / 2)
    factor = 40 ** abs(p / 2 - 1)  # Hoelder's, and no more
    torch.testing.assert_close(low, tau / factor if p <= 2 else tau)
    torch.testing.assert_close(high, tau if p <= 2 else (tau * factor).clamp(max=1))


def test_root_leverage_in_rounds_keeps_norms():
    a = heavy()
    sample = root_leverage_sample(a, 600, 1.0)
    assert 450 < len(sample.rows) < 750
    assert distortion(a, sample, 1.0) < 0.5


def test_rounds_of_sampling_shrink_geometrically(monkeypatch):
    a, sizes = heavy(400), []

    def recorded(scores, size, p, *, seed=0):
        sizes.append((len(scores), size))
        return sample_rows(scores, size, p, seed=seed)

    monkeypatch.setattr("precond.sketches.leverage.sample_rows", recorded)
    drawn = root_leverage_sample(a, 50, 1.5)
    assert [size / rows for rows, size in sizes] == pytest.approx([0.5, 0.5, 0.5], rel=0.2)
    assert sizes[-1][1] == 50
    assert 30 < len(drawn.rows) < 70


def test_rounds_of_sampling_are_independent():
    """``E 1{i is kept} scale_i^p = 1``, of the first row, whose place is the same in every round."""
    a = torch.randn(100, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
    draws = [root_leverage_sample(a, 10, 1.0, rounds=2, seed=s) for s in range(400)]
    kept = [float(drawn.scale[0]) if int(drawn.rows[0]) == 0 else 0.0 for drawn in draws if len(drawn.rows)]
    assert np.mean(kept) == pytest.approx(1, abs=0.5)


def test_no_score_is_above_one():
    square = torch.randn(60, 60, generator=torch.Generator().manual_seed(3), dtype=F64)
    scores = leverage_scores(square)
    torch.testing.assert_close(scores, torch.ones(60, dtype=F64))
    assert float(scores.max()) <= 1


def test_bad_input_is_refused():
    a = heavy(20)
    for call in (
        lambda: lewis_weights(a, 0),
        lambda: sensitivity_bounds(a, 0.5),
        lambda: root_leverage_sample(a, 9, 2),
    ):
        with pytest.raises(BadInputError):
            call()
    with pytest.raises(BadInputError, match="settle in 2 rounds"):
        lewis_weights(a, 1.0, limit=2)
    with pytest.raises(BadInputError, match="not negative"):
        sample_rows(-torch.ones(3), 2, 2)


def test_scores_do_not_depend_on_the_scales_of_columns():
    a = heavy(200)
    a[5], a[6] = 0, a[7]
    scales = 10.0 ** torch.linspace(-200, 200, N, dtype=F64)
    torch.testing.assert_close(leverage_scores(a * scales), leverage_scores(a))
    twice = torch.cat([a, 3 * a[:, :1]], 1)  # a column that adds nothing
    torch.testing.assert_close(leverage_scores(twice), leverage_scores(a))
    torch.testing.assert_close(lewis_weights(a.float(), 1.5), lewis_weights(a, 1.5).float(), rtol=1e-4, atol=1e-6)
    assert float(lewis_weights(a * 1e-100, 1.5)[5]) == 0
    assert leverage_scores(torch.zeros(3, 2)).tolist() == [0, 0, 0]
    assert len(leverage_scores(torch.zeros(0, 2))) == len(lewis_weights(torch.zeros(0, 2), 1.0)) == 0


def test_probabilities_sum_to_the_size_whatever_the_scale():
    generator = np.random.default_rng(5)
    for scale in (1e-300, 1.0, 1e307):
        scores = torch.from_numpy(scale * (generator.lognormal(sigma=2, size=60) / 1e4))
        for size in (0.5, 1, 7.3, 59):
            q = inclusion_probabilities(scores, size)
            assert float(q.sum()) == pytest.approx(size)
            below = q < 1
            ratios = (q / (scores / scores.max()))[below]
            torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
            assert not bool((scores[~below, None] < scores[below]).any())


@pytest.mark.parametrize(
    "call",
    [
        lambda: leverage_scores(torch.tensor([[1.0], [float("nan")]])),
        lambda: leverage_scores(torch.ones(3)),
        lambda: leverage_scores(torch.ones(3, 2, dtype=torch.int64)),
        lambda: lewis_weights(torch.ones(3, 2), float("inf")),
        lambda: lewis_weights(torch.full((3, 2), float("inf")), 1.0),
        lambda: sensitivity_bounds(torch.ones(3, 2), float("inf")),
        lambda: inclusion_probabilities(torch.ones(3), -1),
        lambda: sample_rows(torch.ones(3), 2, 0),
        lambda: root_leverage_sample(torch.ones(3, 1), 2, 1.0, rounds=0),
    ],
)
def test_what_cannot_be_sampled_is_refused(call):
    with pytest.raises(BadInputError):
        call()


def test_rows_of_any_size_have_scores_with_all_their_digits():
    a = torch.cat([torch.eye(3, dtype=F64), 1e-30 * torch.eye(3, dtype=F64)])
    expected = torch.tensor([1.0] * 3 + [1e-60] * 3, dtype=F64)
    torch.testing.assert_close(leverage_scores(a), expected, rtol=1e-12, atol=0)


def test_lewis_weights_settle_where_rows_differ_by_thirty_powers_of_ten():
    a = heavy(rows=300) * torch.logspace(-30, 0, 300, dtype=F64).unsqueeze(1)
    w = lewis_weights(a, 3.0)
    assert float(w.sum()) == pytest.approx(N, rel=1e-8)
    torch.testing.assert_close(leverage_scores(a * (w ** (0.5 - 1 / 3)).unsqueeze(1)), w, rtol=1e-8, atol=0)


def test_lewis_weights_do_not_know_the_unit():
    a = heavy(rows=200)
    torch.testing.assert_close(lewis_weights(a * 1e-310, 5.0), lewis_weights(a, 5.0))


@pytest.mark.parametrize("size", [0, -1, float("nan")])
def test_a_sample_by_rounds_needs_a_positive_size(size):
    with pytest.raises(BadInputError, match="positive size"):
        root_leverage_sample(heavy(rows=50), size, 1.0)
