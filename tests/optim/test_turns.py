"""Coordinates that turn: when they do, and what becomes of a momentum that meets scales which it does not fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from precond.core import BadInputError, Cadence, Method
from precond.filters.ema import EMA
from precond.filters.error_feedback import ErrorFeedback, TopK
from precond.optim import Optimizer
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.rotate import Rotate
from precond.recipes.kullback_leibler import kl_soap
from precond.recipes.matrix import soap


def longest(method: Method, shape: tuple[int, int] = (5, 4), seeds: int = 3, rows: float = 1.0) -> float:
    """Return the longest entry of a direction in some runs, of whose gradients this share of the rows is not zero."""
    found = 0.0
    for seed in range(seeds):
        draw = torch.Generator().manual_seed(seed)
        w = torch.zeros(shape, requires_grad=True)
        optimizer = Optimizer([w], method, lr=1.0)
        lasting = torch.randn(shape, generator=draw)
        for _ in range(90):
            w.detach().zero_()
            gradient = lasting + torch.randn(shape, generator=draw)
            w.grad = gradient * (torch.rand(shape[0], 1, generator=draw) < rows)
            optimizer.step()
            found = max(found, float(w.detach().abs().max()))
    return found


def test_sparse_gradients_do_not_lead_to_steps_that_are_a_thousand_times_too_long() -> None:
    rare = {"rows": 0.15}
    assert longest(soap(every=3), **rare) > 100, "as published, rows that are seldom seen are thrown far off"
    assert longest(soap(every=3, growth=3.0), **rare) < 15
    fed_back = ErrorFeedback(TopK(0.4, block=3, half=False))
    assert longest(dataclasses.replace(soap(every=3, growth=3.0), estimator=fed_back)) < 15


@pytest.mark.parametrize(
    "basis", [Rotate(Eigenbasis(), Diagonal(0.95), 3.0), Blocked(2, Rotate(Eigenbasis(), Diagonal(0.95), 3.0))]
)
def test_coordinates_turn_after_the_step_whatever_the_cadence_says(basis: Rotate | Blocked) -> None:
    """Between observing and applying, second moments would be those of the coordinates before."""
    estimator = ErrorFeedback(TopK(0.4, block=3, half=False))
    method = Method(preconditioner=basis, estimator=estimator, momentum=EMA(0.9), cadence=Cadence(every=3))
    assert method.refreshes_after
    assert longest(method) < 15
    assert not Method(preconditioner=Blocked(2, Kronecker()), cadence=Cadence(every=3)).refreshes_after
    hidden = kl_soap().rules[0][1]
    assert dataclasses.replace(hidden, cadence=Cadence()).refreshes_after


def test_a_bound_that_is_not_met_changes_nothing() -> None:
    """Dense gradients of a size that stays: the directions do not grow so much, to the last bit."""
    ends = []
    for growth in (None, 1e4):
        w = torch.zeros(6, 4, requires_grad=True)
        optimizer = Optimizer([w], soap(every=2, growth=growth), lr=0.1)
        draw = torch.Generator().manual_seed(0)
        for _ in range(20):
            w.grad = torch.randn(6, 4, generator=draw)
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)
    with pytest.raises(BadInputError, match="lengthen"):
        soap(growth=0.5)
