"""Every penalty keeps the laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from precond.core import Penalty
from precond.penalties import L1, MCP, SCAD, Box, ByName, ElasticNet, GroupL1, NonNegative, Within, Zero
from tests.laws.discover import classes

N = 12
WEIGHTS = torch.linspace(0.0, 2.0, N, dtype=torch.float64)
PENALTIES = [
    Zero(), L1([0.1 * i for i in range(N)]), Within(L1(0.1), [-0.1 * i for i in range(N)], 0.3),
    L1(0.7), L1(WEIGHTS), L1(0.0), ElasticNet(0.5, 0.3), SCAD(0.8), SCAD(WEIGHTS, a=2.5), MCP(0.8),
    MCP(WEIGHTS, gamma=1.5), Box(-0.5, 0.4), Box(-WEIGHTS, torch.inf), NonNegative(), Within(L1(0.5), -1.0, 0.3),
    Within(SCAD(0.4), 0.0), GroupL1(0.6, 3), GroupL1([0.0, 1.0, 0.5], [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 2, 2]),
    ByName(((5, SCAD(0.3)), (3, Zero()), (4, GroupL1(0.5, 2)))), ByName(((5, MCP(0.3)), (7, Within(L1(0.2), 0.0)))),
]  # fmt: skip
every_penalty = pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)


def points() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [scale * torch.randn(N, generator=generator, dtype=torch.float64) for scale in (0.3, 1.0, 3.0, 100.0)]
    return [torch.zeros(N, dtype=torch.float64), *drawn]


def test_no_penalty_is_forgotten() -> None:
    assert {type(penalty) for penalty in PENALTIES} == set(classes(Penalty))


@every_penalty
@pytest.mark.parametrize("step", [0.1, 1.0, 7.0])
def test_the_proximal_point_is_better_than_any_other(penalty: Penalty, step: float) -> None:
    penalty.check(N)
    if isinstance(penalty, Within) and step * penalty.concavity >= 1:
        pytest.skip("bounds are applied where the function minimized is convex")
    generator = torch.Generator().manual_seed(1)

    def cost(z: Tensor, x: Tensor) -> float:
        return float(penalty.value(z) + (z - x).square().sum() / (2 * step))

    for x in points():
        best = penalty.prox(x, step)
        level = cost(best, x)
        assert np.isfinite(level)
        for scale in (1e-3, 0.1, 1.0):
            for _ in range(20):
                other = best + scale * torch.randn(N, generator=generator, dtype=torch.float64)
                assert cost(other, x) >= level - 1e-9 * (1 + abs(level))
        assert cost(torch.zeros_like(x), x) >= level - 1e-9 * (1 + abs(level))


@every_penalty
def test_the_slack_vanishes_at_proximal_points_and_is_a_directional_derivative(penalty: Penalty) -> None:
    step = 0.2
    for x in points():
        z = penalty.prox(x, step)
        assert float(penalty.slack(z, (z - x) / step).norm()) <= 1e-9 * (1 + float(x.norm()) / step)
        gradient = torch.linspace(-3, 3, N, dtype=torch.float64)
        s = penalty.slack(z, gradient)
        norm = float(s.norm())
        if norm == 0:
            continue
        h = 1e-7 / norm  # along minus the slack, f + g falls at the rate of its length or faster, never slower
        fall = float(penalty.value(z - h * s) - penalty.value(z)) / h - float(gradient @ s)
        assert fall <= -(norm**2) * (1 - 1e-4) + 1e-4


@every_penalty
def test_support_is_where_the_penalty_is_smooth(penalty: Penalty) -> None:
    z = penalty.prox(points()[2], 0.3)
    held, h = penalty.support(z), 1e-6
    for i in held.nonzero()[:, 0].tolist():
        unit = torch.zeros_like(z)
        unit[i] = h
        ahead, behind = (float(penalty.value(z + s * unit) - penalty.value(z)) / h for s in (1, -1))
        assert ahead + behind == pytest.approx(0.0, abs=1e-4), f"a kink along variable {i}"


@every_penalty
def test_writes_to_nothing_and_keeps_the_precision(penalty: Penalty) -> None:
    x, g = points()[2], points()[1]
    kept = x.clone(), g.clone()
    penalty.prox(x, 0.5)
    penalty.slack(x, g)
    penalty.support(x)
    assert torch.equal(x, kept[0])
    assert torch.equal(g, kept[1])
    assert penalty.prox(x.float(), 0.5).dtype == torch.float32
    assert penalty.slack(x.float(), g.float()).dtype == torch.float32


@every_penalty
def test_parts_are_the_penalty_of_their_variables(penalty: Penalty) -> None:
    units = penalty.units(N)
    kept = torch.isin(units, torch.tensor([0, 2, 5])).nonzero()[:, 0]
    part = penalty.at(kept)
    x = penalty.prox(points()[2], 0.3)
    outside = torch.zeros_like(x).index_copy(0, kept, x[kept])
    expected = penalty.value(outside) - penalty.value(torch.zeros_like(x)) + part.value(torch.zeros_like(x[kept]))
    torch.testing.assert_close(part.value(x[kept]), expected, rtol=1e-13, atol=1e-13)
    g = points()[1]
    torch.testing.assert_close(part.slack(x[kept], g[kept]), penalty.slack(x, g)[kept], rtol=1e-13, atol=1e-13)


@every_penalty
def test_compiled_functions_are_the_same(penalty: Penalty) -> None:
    scalars = penalty.scalars(N)
    if scalars is None:
        return
    from precond.math.scalar_kernels import prox
    from precond.proximal.rules import scalar_values

    columns = [column.numpy() for column in scalars.columns()]
    for x in points():
        for step in (0.1, 1.0, 7.0):
            if isinstance(penalty, (Within, ByName)) and step * penalty.concavity >= 1:
                continue
            ours = np.array([prox(float(x[j]), 1 / step, *(column[j] for column in columns)) for j in range(N)])
            np.testing.assert_allclose(ours, penalty.prox(x, step).numpy(), rtol=1e-12, atol=1e-12)
        inside = penalty.prox(x, 0.1)
        assert float(scalar_values(scalars, inside).sum()) == pytest.approx(float(penalty.value(inside)), rel=1e-12)


@every_penalty
def test_the_split_adds_up_and_its_rest_is_smooth_and_concave(penalty: Penalty) -> None:
    if isinstance(penalty, Within) and penalty.concavity:
        return
    convex, rest = penalty.split()
    assert convex.concavity == 0
    x, y = (penalty.prox(p, 0.1) for p in points()[2:4])
    torch.testing.assert_close(convex.value(x) + rest.value(x), penalty.value(x))
    middle = (x + y) / 2
    assert float(rest.value(middle)) >= float(rest.value(x) + rest.value(y)) / 2 - 1e-12
    leaf = x.clone()
    h = 1e-6
    for i in range(N):
        unit = torch.zeros_like(leaf)
        unit[i] = h
        slope = float(rest.value(leaf + unit) - rest.value(leaf - unit)) / (2 * h)
        assert slope == pytest.approx(float(rest.gradient(leaf)[i]), abs=1e-5)
