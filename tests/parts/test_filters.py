"""Filters on short streams, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.filters.adan import DifferenceMomentum, LookAhead
from precond.filters.clip import ClipAmplitude, ClipNorm
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.lion import Interpolation
from precond.filters.nesterov import Nesterov

NOTHING = Evidence()
V = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float64)


def outputs(filter_, stream, evidence=lambda v: NOTHING):
    state = filter_.init(stream[0])
    return [filter_.push(state, v, evidence(v)).clone() for v in stream]


def test_a_debiased_average_of_a_constant_is_the_constant():
    for result in outputs(EMA(0.9), [V] * 5):
        assert torch.allclose(result, V, rtol=1e-14)
    assert torch.allclose(outputs(EMA(0.9, debias=False), [V] * 2)[1], 0.19 * V)


def test_heavy_ball_takes_the_first_vector_undamped():
    first, second = outputs(HeavyBall(0.9, dampening=0.5), [V, V])
    assert torch.equal(first, V)
    assert torch.allclose(second, 1.4 * V, rtol=1e-14)
    assert HeavyBall(0.9).init(V).steps is None


def test_nesterov_looks_ahead_of_the_average():
    assert torch.allclose(outputs(Nesterov(0.9), [V])[0], 0.19 * V)
    assert torch.allclose(outputs(HeavyBall(0.9, nesterov=True), [V])[0], 1.9 * V)


def test_interpolation_returns_before_it_remembers():
    first, second = outputs(Interpolation(0.9, 0.5), [V, 0 * V])
    assert torch.allclose(first, 0.1 * V)
    assert torch.allclose(second, 0.45 * V)


def test_look_ahead_extrapolates():
    (result,) = outputs(LookAhead(0.5), [V], lambda v: Evidence(previous=0.8 * v))
    assert torch.allclose(result, 1.1 * V)


def test_difference_momentum_of_a_constant_is_the_constant():
    for result in outputs(DifferenceMomentum(), [V] * 4, lambda v: Evidence(previous=v)):
        assert torch.allclose(result, V, rtol=1e-12)


@pytest.mark.parametrize("filter_", [LookAhead(), DifferenceMomentum()])
def test_a_missing_previous_gradient_is_named(filter_):
    with pytest.raises(TypeError, match="previous"):
        outputs(filter_, [V])


def test_clipping_is_per_member_and_leaves_short_vectors_alone():
    v = torch.stack([V, 1e-3 * V, 0 * V, 1e30 * V])
    (result,) = outputs(ClipNorm(1.0), [v])
    norms = result.flatten(1).norm(dim=1)
    assert torch.allclose(norms[[0, 3]], torch.ones(2).double())
    assert torch.equal(result[1:3], v[1:3])


def test_refusals():
    with pytest.raises(BadInputError, match="positive limit"):
        ClipNorm(0.0)
    with pytest.raises(BadInputError, match="dampening=0"):
        HeavyBall(0.9, 0.1, nesterov=True)


@pytest.mark.parametrize(
    "filter_",
    [EMA(), HeavyBall(), HeavyBall(dampening=0.1), Nesterov(), Interpolation(), DifferenceMomentum(), ClipNorm()],
)
def test_arguments_stay_and_members_do_not_interact(filter_):
    stream = [torch.randn(3, 4, 2, dtype=torch.float64) for _ in range(4)]
    kept = [v.clone() for v in stream]
    together = outputs(filter_, stream, lambda v: Evidence(previous=torch.zeros_like(v)))
    apart = outputs(filter_, [v[1:2] for v in stream], lambda v: Evidence(previous=torch.zeros_like(v)))
    assert all(torch.equal(a, b) for a, b in zip(stream, kept, strict=True))
    assert all(torch.allclose(a[1:2], b, rtol=1e-14) for a, b in zip(together, apart, strict=True))


def test_amplitudes_are_clipped_per_member_and_entries_at_the_largest():
    v = torch.zeros(3, 4, 25, dtype=torch.float64)
    v[0], v[1, 0, 0], v[2] = 50.0, 300.0, 0.5
    (result,) = outputs(ClipAmplitude(rms=2.0, largest=10.0), [v])
    assert torch.allclose(result[0], torch.full_like(v[0], 2.0))
    assert float(result[1, 0, 0]) == 10.0, "20 after the root mean square, then cut"
    assert torch.equal(result[2], v[2])
