"""What says that it looks at entries alone may be run on any part of a tensor."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from precond.core import Evidence, Factor, Filter, Need, Preconditioner, Scope, StepRule, named_tensors
from tests.laws.discover import instances, name

PROVIDED = Need.GRADIENT | Need.PREVIOUS | Need.LOSS


def elementwise(noun: type) -> list[Any]:
    """Return the parts of a kind that claim it, as far as gradients are all that they need."""
    return [part for part in instances(noun) if part.scope is Scope.ELEMENTWISE and not part.needs & ~PROVIDED]


def run(part: Any, rows: slice) -> tuple[list[torch.Tensor], Any]:
    """Feed three gradients, of which the part sees some rows, and return what it makes of them."""
    generator = torch.Generator().manual_seed(0)
    stream = torch.randn(4, 2, 6, 3, generator=generator, dtype=torch.float64)[:, :, rows]
    state, results = part.init(stream[0]), []
    for previous, gradient in itertools.pairwise(stream):
        evidence = Evidence(gradient=gradient, previous=previous, loss=torch.tensor(1.0, dtype=torch.float64))
        if isinstance(part, Preconditioner):
            part.observe(state, evidence)
            part.refresh(state)
            results.append(part.apply(state, gradient))
        elif isinstance(part, Filter):
            results.append(part.push(state, gradient, evidence))
        else:
            assert isinstance(part, Factor)
            results.append(gradient * part.factor(state, evidence, gradient))
    return results, state


PARTS = [part for noun in (Preconditioner, Filter, StepRule) for part in elementwise(noun)]


@pytest.mark.parametrize("part", PARTS, ids=name)
def test_parts_of_a_tensor_are_treated_as_the_whole_treats_them(part: Any) -> None:
    whole, whole_state = run(part, slice(None))
    upper, upper_state = run(part, slice(0, 4))
    lower, _ = run(part, slice(4, 6))
    for expected, *halves in zip(whole, upper, lower, strict=True):
        torch.testing.assert_close(torch.cat(halves, 1), expected, rtol=1e-12, atol=1e-12)
    for (_, expected), (_, held) in zip(named_tensors(whole_state), named_tensors(upper_state), strict=True):
        if expected.ndim == 3:
            torch.testing.assert_close(held, expected[:, :4], rtol=1e-12, atol=1e-12)
