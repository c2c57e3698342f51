"""L-BFGS (Liu & Nocedal 1989) against dense BFGS matrices, written out from the update formula."""

import itertools
import math

import numpy as np
import pytest
import torch

import precond
from precond.core import Advance, Evidence, Method, NoState, Search, map_tensors
from precond.core import named_tensors as tensors
from precond.math.dense import secants
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes.second_order import lbfgs
from precond.solvers.smooth.minimize import run
from precond.solvers.smooth.objectives import TorchObjective
from precond.steps.strong_wolfe import StrongWolfe


def dense_inverse(pairs, memory, n):
    """The BFGS inverse Hessian of the last pairs, from gamma I of the newest: eq. (2.2)-(2.4) of the paper."""
    pairs = [(s, y) for s, y in pairs if s @ y > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y)][-memory:]
    if not pairs:
        return np.eye(n)
    s, y = pairs[-1]
    h = (s @ y) / (y @ y) * np.eye(n)
    for s, y in pairs:
        rho = 1 / (s @ y)
        v = np.eye(n) - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    return h


def feed(part, state, s, y):
    part.observe(state, Evidence(secant=(s, y)))


@pytest.mark.parametrize("memory", [1, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 3, 11])
def test_equals_the_dense_recursion(memory, count):
    n, batch = 7, 2
    generator = torch.Generator().manual_seed(count)
    part = LBFGS(memory)
    state = part.init(torch.zeros(batch, n, dtype=torch.float64))
    pairs = [[], []]
    for k in range(count):
        s = torch.randn(batch, n, dtype=torch.float64, generator=generator)
        y = s + 0.5 * torch.randn(batch, n, dtype=torch.float64, generator=generator)
        if k % 4 == 1:
            y[1] = -s[1]  # member 1 has pairs without curvature, which it must skip alone
        feed(part, state, s, y)
        for member in range(batch):
            pairs[member].append((s[member].numpy(), y[member].numpy()))
    v = torch.randn(batch, n, dtype=torch.float64, generator=generator)
    got = part.apply(state, v)
    for member in range(batch):
        want = dense_inverse(pairs[member], memory, n) @ v[member].numpy()
        np.testing.assert_allclose(got[member].numpy(), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_compiled_loops_are_those_of_torch(dtype, monkeypatch):
    generator, like = torch.Generator().manual_seed(1), torch.zeros(2, 6, dtype=dtype)
    part = LBFGS(4)
    compiled, plain = part.init(like), part.init(like)
    for _ in range(9):
        s = torch.randn(like.shape, dtype=dtype, generator=generator)
        y = s + 0.5 * torch.randn(like.shape, dtype=dtype, generator=generator)
        feed(part, compiled, s, y)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(secants, "small", lambda s: False)
            feed(part, plain, s, y)
            there = part.apply(plain, s)
        torch.testing.assert_close(part.apply(compiled, s), there)
        for (name, a), (_, b) in zip(tensors(compiled), tensors(plain), strict=True):
            torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_pairs_whose_squares_leave_the_range_of_numbers(small, unit, monkeypatch):
    monkeypatch.setattr(secants, "small", lambda s: small)
    part, s = LBFGS(2), torch.arange(1.0, 5.0, dtype=torch.float64)[None]
    state = part.init(torch.zeros_like(s))
    feed(part, state, s, unit * s)
    assert state.count.item() == 1
    torch.testing.assert_close(part.apply(state, unit * s), s)


def test_newest_secant_equation_holds():
    part, like = LBFGS(4), torch.zeros(1, 9, dtype=torch.float64)
    state = part.init(like)
    for k in range(6):
        s = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        y = 3 * s + 0.1 * s.roll(1, 1)
        feed(part, state, s, y)
    torch.testing.assert_close(part.apply(state, y), s)


def test_apply_writes_nothing_and_observe_keeps_the_tensors():
    part, like = LBFGS(2), torch.zeros(1, 5, dtype=torch.float64)
    state = part.init(like)
    before = {name: tensor.data_ptr() for name, tensor in tensors(state)}
    s = torch.arange(1.0, 6.0, dtype=torch.float64)[None]
    feed(part, state, s, 2 * s)
    assert before == {name: tensor.data_ptr() for name, tensor in tensors(state)}
    copy = map_tensors(torch.clone, state)
    part.apply(state, s)
    for (_, a), (_, b) in zip(tensors(copy), tensors(state), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("memory", "pairs"), [(3, 0), (3, 2), (3, 3), (3, 8), (9, 4)])
def test_a_shift_is_added_to_the_direct_matrix(memory, pairs):
    """Against the BFGS updates of the direct matrix, one after the other, from the newest pair's multiple of I."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix = root @ root.T + np.eye(6)
    part = LBFGS(memory)
    state = part.init(torch.zeros(1, 6, dtype=torch.float64))
    seen = []
    for _ in range(pairs):
        s = rng.normal(size=6)
        seen.append((s, matrix @ s))
        feed(part, state, *(torch.from_numpy(v)[None] for v in seen[-1]))
    b = np.eye(6) if not seen else np.eye(6) * (seen[-1][1] @ seen[-1][1]) / (seen[-1][0] @ seen[-1][1])
    for s, y in seen[-memory:]:
        b = b - np.outer(b @ s, b @ s) / (s @ b @ s) + np.outer(y, y) / (y @ s)
    v = rng.normal(size=(1, 6))
    want = np.linalg.solve(b + 0.3 * np.eye(6), v[0])
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v), shift=0.3)[0].numpy(), want, rtol=1e-9)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_useless_pairs_are_skipped(bad):
    part, like = LBFGS(3), torch.zeros(1, 4, dtype=torch.float64)
    state = part.init(like)
    v = torch.ones(1, 4, dtype=torch.float64)
    feed(part, state, v, bad * v)
    assert state.count.item() == 0
    torch.testing.assert_close(part.apply(state, v), v)


class ExactQuadratic(Search[NoState]):
    """The exact minimizer along the line, for a quadratic with Hessian ``a``."""

    def __init__(self, a):
        self.a = a

    def init(self, like):
        return NoState()

    def advance(self, state, point, direction, objective):
        d = direction(0.0)
        alpha = -(point.gradient * d).sum() / (d @ self.a * d).sum()
        return Advance(objective.point(point.x + alpha * d))


def quadratic(n, condition):
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    a = q @ torch.diag(torch.logspace(0, math.log10(condition), n, dtype=torch.float64)) @ q.T
    b = torch.arange(1.0, n + 1, dtype=torch.float64)
    return a, b, lambda x: 0.5 * x @ a @ x - b @ x


def test_exact_line_searches_make_conjugate_directions_and_finite_termination():
    n = 8
    a, _, fun = quadratic(n, 50.0)
    points = []
    method = Method(preconditioner=LBFGS(n), step=ExactQuadratic(a))
    outcome = run(
        TorchObjective(fun),
        torch.zeros(1, n, dtype=torch.float64),
        method,
        tol=1e-9,
        max_iterations=20,
        callback=lambda event: points.append(event.x[0].clone()),
    )
    assert outcome.status.group == "converged"
    assert outcome.iterations <= n + 1
    steps = torch.stack([b - a_ for a_, b in itertools.pairwise(points)])
    gram = steps @ a @ steps.T
    scale = gram.diagonal().sqrt()
    off = gram / scale[:, None] / scale - torch.eye(len(steps), dtype=torch.float64)
    assert off[:n, :n].abs().max() < 1e-6


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("memory", [3, 10])
def test_rosenbrock_from_the_standard_start(memory):
    x0 = torch.tensor([-1.2, 1.0] * 10, dtype=torch.float64)
    result = precond.minimize(rosenbrock, x0, method=lbfgs(memory=memory), tol=1e-8)
    assert result.converged, result.message
    torch.testing.assert_close(result.x, torch.ones_like(x0), rtol=0, atol=1e-7)
    assert result.work.gradients < 2 * result.iterations + 20


def test_more_memory_needs_fewer_iterations_than_steepest_descent_by_far():
    """The point of the paper: a few pairs already change the order of the cost."""
    _, _, fun = quadratic(40, 1e3)
    iterations = {
        memory: precond.minimize(fun, torch.zeros(40).double(), method=lbfgs(memory=memory), tol=1e-6).iterations
        for memory in (1, 5, 20)
    }
    assert iterations[20] < iterations[5] < iterations[1]


def test_every_accepted_step_satisfies_the_strong_wolfe_conditions():
    rule, objective = StrongWolfe(), TorchObjective(rosenbrock)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        point = objective.point(2 * torch.randn(1, 4, dtype=torch.float64, generator=generator))
        scale = 10 ** float(torch.randint(-6, 4, (), generator=generator))
        d = -scale * point.gradient * torch.rand(1, 4, dtype=torch.float64, generator=generator)
        advance = rule.advance(rule.init(point.x), point, lambda shift, d=d: d, objective)
        assert advance.failure is None
        new = advance.point
        alpha = ((new.x - point.x) * d).sum() / (d * d).sum()
        slope = (point.gradient * d).sum()
        assert new.loss <= point.loss + 1e-4 * alpha * slope
        assert (new.gradient * d).sum().abs() <= 0.9 * slope.abs()


@pytest.mark.parametrize("wall", [math.nan, math.inf, -math.inf])
def test_line_search_backs_out_of_values_that_are_not_finite(wall):
    def fun(x):
        return torch.where(x[0] > 1, wall, -x[0] - 0.1 * torch.log(1.05 - x[0].clamp(max=1.04)))

    result = precond.minimize(fun, torch.zeros(1).double(), method="lbfgs", tol=1e-8)
    assert result.converged, result.message
    torch.testing.assert_close(result.x.item(), 0.95, rtol=0, atol=1e-6)
