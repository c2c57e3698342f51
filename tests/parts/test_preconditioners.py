"""Preconditioners of training methods: their maps, their refreshes, and bad evidence."""

from __future__ import annotations

import pytest
import torch

from precond.core import BadInputError, Evidence, IncompatibleError, map_tensors, named_tensors
from precond.filters.clip import ClipNorm
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.graft import Graft
from precond.preconditioners.identity import Identity
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.observing import Observing
from precond.preconditioners.polar import Polar
from precond.preconditioners.rotate import Rotate
from precond.preconditioners.sign import Sign

SHAPES = [(), (5,), (4, 3), (3, 2, 2), (2, 3, 2, 2)]
PARTS = [
    Identity(),
    Diagonal(),
    Diagonal(beta=1.0),
    Sign(),
    Polar(),
    Polar(steps=0, scale="rms"),
    Kronecker(),
    Kronecker(beta=0.9, max_dim=3),
    Rotate(Eigenbasis(), Diagonal(0.95)),
    Rotate(Eigenbasis(max_dim=3), Diagonal(0.95)),
    Graft(Kronecker(), Diagonal(beta=1.0)),
    Observing(ClipNorm(), Diagonal()),
]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(part, like, steps=3, seed=0, prime=True):
    state = part.init(like)
    for t in range(steps):
        evidence = Evidence(gradient=noise(*like.shape, seed=seed + t).to(like))
        if t == 0 and prime:
            part.prime(state, evidence)
        part.observe(state, evidence)
        part.refresh(state)
    return state


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_members_do_not_interact_and_nothing_is_written(part, shape):
    like = noise(3, *shape)
    state = trained(part, like)
    assert all(tensor.shape[0] == 3 for _, tensor in named_tensors(state))
    v = noise(3, *shape, seed=9)
    kept, before = v.clone(), map_tensors(torch.clone, state)
    result = part.apply(state, v)
    assert result.shape == v.shape
    assert result.isfinite().all()
    assert torch.equal(v, kept)
    for (_, a), (_, b) in zip(named_tensors(state), named_tensors(before), strict=True):
        assert torch.equal(a, b)
    alone = part.apply(map_tensors(lambda t: t[1:2], state), v[1:2])
    assert torch.allclose(alone, result[1:2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_tensors_of_the_state_are_written_in_place(part):
    like = noise(2, 4, 3)
    state = part.init(like)
    held = dict(named_tensors(state))
    evidence = Evidence(gradient=noise(2, 4, 3, seed=1))
    part.prime(state, evidence)
    part.observe(state, evidence)
    part.refresh(state)
    assert all(tensor is held[name] for name, tensor in named_tensors(state))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_zero_gradients_give_zero_directions(part, shape):
    like = torch.zeros(2, *shape)
    state = part.init(like)
    for _ in range(3):
        part.prime(state, Evidence(gradient=like))
        part.observe(state, Evidence(gradient=like))
        assert part.refresh(state).failures == 0
    assert (part.apply(state, like) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kronecker_factors_are_the_dense_kronecker_product(dtype):
    part = Kronecker(eps=0.1)
    state = trained(part, torch.zeros(1, 3, 4, dtype=dtype))
    left, right = (root[0].double() for root in state.roots)
    v = noise(1, 3, 4, seed=5)
    dense = torch.kron(left, right) @ v.flatten()
    assert torch.allclose(part.apply(state, v.to(dtype)).double().flatten(), dense, rtol=1e-5)
    for factor, root in zip(state.factors, state.roots, strict=True):
        product = torch.linalg.matrix_power(root[0].double(), 4) @ factor[0].double()
        assert torch.allclose(product, torch.eye(factor.shape[-1]).double(), atol=1e-4)


def test_kronecker_before_any_refresh_is_the_root_of_its_start():
    part = Kronecker(eps=1e-4)
    v = noise(1, 3, 4)
    assert torch.allclose(part.apply(part.init(v), v), 1e2**1 * v, rtol=1e-12)  # (1e-4)^(-1/4) twice


def test_failed_roots_keep_the_last_and_are_counted():
    part = Kronecker()
    state = trained(part, noise(3, 4, 3))
    roots = [root.clone() for root in state.roots]
    bad = noise(3, 4, 3, seed=7)
    bad[1, 0, 0] = torch.nan
    part.observe(state, Evidence(gradient=bad))
    health = part.refresh(state)
    assert health.failures == 2
    assert "mode 0" in health.detail
    assert "mode 1" in health.detail
    for old, new in zip(roots, state.roots, strict=True):
        assert torch.equal(old[1], new[1])
        assert not torch.equal(old[0], new[0])


def test_failed_bases_keep_the_last_and_are_counted():
    part = Rotate(Eigenbasis(), Diagonal(0.95))
    state = trained(part, noise(3, 4, 3))
    bases = [basis.clone() for basis in state.basis.bases]
    bad = noise(3, 4, 3, seed=7)
    bad[1, 0, 0] = torch.inf
    part.basis.observe(state.basis, Evidence(gradient=bad))
    assert part.refresh(state).failures == 2
    for old, new in zip(bases, state.basis.bases, strict=True):
        assert torch.equal(old[1], new[1])
        assert not torch.equal(old[0], new[0])


def test_a_basis_that_was_not_primed_is_found_at_the_first_refresh():
    part = Eigenbasis()
    state = part.init(noise(2, 4, 4))
    part.observe(state, Evidence(gradient=noise(2, 4, 4)))
    assert not state.found.any()
    part.refresh(state)
    assert state.found.all()
    turned = state.bases[0].mT @ state.factors[0] @ state.bases[0]
    assert torch.allclose(turned, torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1)), atol=1e-12)
    assert (turned.diagonal(dim1=-2, dim2=-1).diff(dim=-1) <= 1e-12).all()


def test_priming_with_a_gradient_that_is_not_finite_is_made_up_for():
    part = Eigenbasis(beta=0.0)
    bad = noise(2, 3, 3)
    bad[0, 0, 0] = torch.nan
    state = part.init(bad)
    part.prime(state, Evidence(gradient=bad))
    assert state.found.tolist() == [False, True]
    assert torch.equal(state.bases[0][0], torch.eye(3).double())
    part.init(bad)
    for factor in state.factors:
        factor[0] = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    part.refresh(state)
    assert state.found.all()


def test_refresh_permutes_the_inner_state_with_the_basis():
    part = Rotate(Eigenbasis(beta=0.5), Diagonal(0.95))
    state = part.init(noise(1, 3, 2))
    state.basis.found.fill_(True)
    state.basis.factors[0].copy_(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
    state.basis.factors[1].copy_(torch.diag(torch.tensor([1.0, 2.0])))
    state.inner.second_moment.copy_(torch.arange(6.0).view(1, 3, 2))
    part.refresh(state)
    assert torch.equal(state.inner.second_moment[0], torch.tensor([[3.0, 2.0], [5.0, 4.0], [1.0, 0.0]]).double())
    assert torch.allclose(state.basis.bases[0][0].abs(), torch.eye(3)[:, [1, 2, 0]].double())


def test_diagonal_eps_before_or_after_the_correction():
    g = torch.full((1, 1), 2.0, dtype=torch.float64)
    for eps_first, expected in ((False, 1 / (2 + 0.5)), (True, 0.1**0.5 / (2 * 0.1**0.5 + 0.5))):
        part = Diagonal(beta=0.9, eps=0.5, eps_first=eps_first)
        state = part.init(g)
        part.observe(state, Evidence(gradient=g))
        assert torch.allclose(part.apply(state, torch.ones_like(g)), torch.full_like(g, expected))


def test_shifts():
    g, v = noise(1, 3), noise(1, 3, seed=1)
    part = Diagonal()
    state = trained(part, g)
    scale = v / part.apply(state, v)
    assert torch.allclose(part.apply(state, v, shift=2.0), v / (scale + 2.0))
    assert torch.allclose(Identity().apply(Identity().init(v), v, shift=1.0), v / 2)
    for refusing in (Sign(), Polar(), Kronecker(), Graft(Identity(), Identity())):
        with pytest.raises(IncompatibleError, match="no shift"):
            refusing.apply(refusing.init(v), v, shift=1.0)


def test_grafting_transfers_norms_per_member():
    part = Graft(Kronecker(), Identity())
    state = trained(part, noise(3, 4, 2))
    v = noise(3, 4, 2, seed=4) * torch.tensor([1e-8, 1.0, 1e8]).view(3, 1, 1)
    result = part.apply(state, v)
    assert torch.allclose(result.flatten(1).norm(dim=1), v.flatten(1).norm(dim=1), rtol=1e-6)
    own = part.direction.apply(state.direction, v)
    cosine = torch.cosine_similarity(result.flatten(1), own.flatten(1))
    assert torch.allclose(cosine, torch.ones(3).double())


def test_polar_scales_and_flattens():
    v = noise(1, 6, 2, 1, 1)
    plain = Polar(scale="none")
    expected = plain.apply(plain.init(v), v)
    spectral, rms = Polar(scale="spectral"), Polar(scale="rms")
    assert torch.allclose(spectral.apply(spectral.init(v), v), 3**0.5 * expected)
    assert torch.allclose(rms.apply(rms.init(v), v), 0.2 * 6**0.5 * expected)
    with pytest.raises(BadInputError, match="negative"):
        Polar(steps=-1)


def test_only_elementwise_parts_run_in_a_turning_basis():
    with pytest.raises(IncompatibleError, match="use Diagonal"):
        Rotate(Eigenbasis(), Kronecker())


def test_wrappers_refresh_when_what_they_wrap_does():
    assert not Observing(ClipNorm(), Diagonal()).refreshes
    assert Observing(ClipNorm(), Kronecker()).refreshes
    assert not Graft(Identity(), Diagonal()).refreshes
    assert Graft(Identity(), Kronecker()).refreshes
