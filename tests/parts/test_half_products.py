"""Symmetric products are multiplied out by half for large factors; whoever uses a factor must see it whole."""

from __future__ import annotations

import pytest
import torch

from precond.core import Evidence, Preconditioner
from precond.math.tensors import modes
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.one_sided import OneSided
from precond.preconditioners.rotate import Rotate

PARTS = [Kronecker(), Kronecker(beta=0.9), OneSided(), Rotate(Eigenbasis(), Diagonal(0.95))]


def course(part: Preconditioner, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    state = part.init(torch.empty(2, *shape, dtype=torch.float64))
    gradients = [torch.randn(2, *shape, generator=generator, dtype=torch.float64) for _ in range(7)]
    part.prime(state, Evidence(gradient=gradients[0]))
    for step, gradient in enumerate(gradients[1:]):
        part.observe(state, Evidence(gradient=gradient))
        if step % 2:
            part.refresh(state)
    return part.apply(state, gradients[0])


@pytest.mark.parametrize("shape", [(9, 9), (8, 8)])  # full rank: null spaces have no basis of their own
@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_halves_and_wholes_agree(part: Preconditioner, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = course(part, shape)
    monkeypatch.setattr(modes, "_LEAST_SIDE", 4)
    torch.testing.assert_close(course(part, shape), whole, rtol=1e-9, atol=1e-9)


def test_completing_mirrors_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "_LEAST_SIDE", 4)
    v = torch.randn(3, 11, 5, dtype=torch.float64)
    factor = torch.zeros(3, 11, 11, dtype=torch.float64)
    modes.add_gram(factor, v, 0, beta=1.0, alpha=1.0)
    assert not torch.allclose(factor, factor.mT)
    modes.complete(factor)
    torch.testing.assert_close(factor, v @ v.mT)
