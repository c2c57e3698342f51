"""Every step rule keeps the laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from precond.core import Factor, Objective, Operator, Point, Search, Shared, StepRule, Work, named_tensors
from precond.operators import as_operator
from tests.laws.discover import instances, name
from tests.laws.feed import addresses, equal, evidence, random, snapshot, spd

F64 = torch.float64
N = 6
every_rule = pytest.mark.parametrize("part", instances(StepRule), ids=name)
every_factor = pytest.mark.parametrize("part", [p for p in instances(StepRule) if isinstance(p, Factor)], ids=name)
every_shared = pytest.mark.parametrize("part", [p for p in instances(StepRule) if isinstance(p, Shared)], ids=name)
every_search = pytest.mark.parametrize("part", [p for p in instances(StepRule) if isinstance(p, Search)], ids=name)


@every_rule
def test_init_reads_no_values(part: StepRule[Any]) -> None:
    zeros = torch.zeros(3, N, dtype=F64)
    from_zeros = part.init(zeros)
    assert equal(snapshot(from_zeros), snapshot(part.init(torch.full_like(zeros, torch.nan))))
    for key, tensor in named_tensors(part.init(zeros.to("meta"))):
        assert tensor.is_meta, f"{key} does not follow the device of the argument"
        assert tensor.shape[:1] == (3,), f"{key} has shape {tuple(tensor.shape)}: the batch must be the leading axis"


@every_rule
def test_is_a_factor_or_a_search(part: StepRule[Any]) -> None:
    assert isinstance(part, Factor | Search | Shared), "no driver can run a rule that is none of these"


@every_factor
def test_factor_is_positive_and_writes_nothing(part: Factor[Any]) -> None:
    state = part.init(torch.zeros(2, N, dtype=F64))
    before = addresses(state)
    for step in range(4):
        record = evidence(2, (N,), step)
        direction = record.gradient.clone()
        factor = torch.as_tensor(part.factor(state, record, direction))
        assert bool((factor > 0).all())
        assert bool(torch.isfinite(factor).all())
        assert torch.broadcast_shapes(factor.shape, direction.shape) == direction.shape
        assert torch.equal(direction, record.gradient), "factor writes to the direction"
        assert addresses(state) == before, "a tensor of the state was replaced instead of written to"


@every_shared
def test_shared_factors_are_positive_and_do_not_depend_on_the_order(part: Shared[Any]) -> None:
    state = part.init(torch.zeros(3, N, 2, dtype=F64))
    before = addresses(state)
    for step in range(4):
        record = evidence(3, (N, 2), step)
        kept = record.gradient.clone()
        contributions = part.contribute(state, record, lambda v: 2 * v)
        assert contributions.ndim == 1
        assert len(contributions) % 3 == 0
        combined = part.combine(contributions)
        assert combined.ndim == 0
        torch.testing.assert_close(part.combine(contributions.flip(0)), combined)
        factors = part.share(state, record, combined)
        assert factors.shape in ((3,), record.gradient.shape)
        assert bool((factors > 0).all())
        assert bool(torch.isfinite(factors).all())
        assert torch.equal(record.gradient, kept), "the evidence was written to"
        assert addresses(state) == before, "a tensor of the state was replaced instead of written to"


class Quartic(Objective):
    """``x'Hx/2 + sum x^4/4``: smooth, strictly convex, not quadratic."""

    def __init__(self, hessian: Tensor) -> None:
        super().__init__(Work())
        self.matrix = hessian

    def hessian(self, x: Tensor) -> Operator:
        return as_operator(self.matrix + torch.diag(3 * x[0] ** 2), symmetric=True, definite=True)

    def _value(self, x: Tensor) -> Tensor:
        return (x @ self.matrix @ x.T).squeeze() / 2 + (x**4).sum() / 4

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return Quartic._value(self, x), x @ self.matrix + x**3


@every_search
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_goes_downhill(part: Search[Any], seed: int) -> None:
    objective = Quartic(spd(N, seed))
    state = part.init(torch.zeros(1, N, dtype=F64))
    before = addresses(state)
    point = objective.point(random((1, N), seed))
    for _ in range(4):
        start, kept = point, point.x.clone()
        advance = part.advance(state, start, _newton(objective, start), objective)
        point = advance.point
        assert torch.equal(start.x, kept), "advance writes to the point"
        assert addresses(state) == before, "a tensor of the state was replaced instead of written to"
        assert advance.failure is None, advance.failure
        assert point.loss < start.loss
        loss, gradient = objective._value_and_gradient(point.x)
        torch.testing.assert_close((point.loss, point.gradient), (loss, gradient), rtol=1e-12, atol=1e-12)


@every_search
def test_search_survives_a_wall_of_nan(part: Search[Any]) -> None:
    """Where the objective is NaN everywhere else, a search stays where it began; it neither loops nor raises."""

    class Wall(Quartic):
        def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradient = super()._value_and_gradient(x)
            at_start = torch.equal(x, start)
            return (loss, gradient) if at_start else (loss * torch.nan, gradient * torch.nan)

        def _value(self, x: Tensor) -> Tensor:
            return self._value_and_gradient(x)[0]

    start = random((1, N), 0)
    objective = Wall(spd(N, 0))
    point = objective.point(start)
    advance = part.advance(part.init(torch.zeros(1, N, dtype=F64)), point, _newton(objective, point), objective)
    assert torch.equal(advance.point.x, start), "a search moved to a point where the objective is NaN"
    assert objective.work.gradients + objective.work.losses < 200


def _newton(objective: Quartic, point: Point) -> Any:
    hessian = objective.matrix + torch.diag(3 * point.x[0] ** 2)

    class Newton:
        def __call__(self, shift: float, against: Tensor | None = None) -> Tensor:
            v = point.gradient if against is None else against
            return -torch.linalg.solve(hessian + shift * torch.eye(N, dtype=F64), v.T).T

        def metric(self, v: Tensor) -> Tensor:
            return v

    return Newton()
