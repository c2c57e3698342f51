"""Distributed Shampoo against plain loops over blocks: merging, grafting, start, overrides, adaptive QR, failures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import BadInputError, RefreshError
from precond.math.factors.root_methods import AdaptiveQR, Damped, InverseRoot
from precond.math.factors.turns import adaptive_qr, off_diagonal_mass
from precond.math.tensors.shapes import merge_last_dims
from precond.optim import DistributedShampoo, Optimizer, Shampoo
from precond.preconditioners.kronecker import Kronecker
from precond.recipes.distributed import distributed_shampoo
from precond.recipes.matrix import shampoo
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start, with_gaps

MERGED = {
    (5, 3): (5, 3),
    (4, 7): (4, 7),
    (6,): (6,),
    (3,): (3,),
    (): (1,),
    (1, 5): (5,),
    (5, 1): (5,),
    (4, 2, 3, 3): (8, 9),
    (3, 2, 2): (3, 4),
}
"""The test's shapes, merged by hand from the right up to 9, as long as more than one axis is left."""


def inverse_root(matrix, exponent, eps):
    values, vectors = np.linalg.eigh(matrix + eps * np.eye(len(matrix)))
    if values[0] < eps:
        values = values - values[0] + eps
    return vectors * values**-exponent @ vectors.T


def second_moments(kind, v, g, beta):
    if kind == "adagrad":
        return v + g**2
    return beta * v + (1 - beta) * g**2


def reference(
    w, stream, lr, betas=(0.9, 1.0), beta3=None, epsilon=1e-12, grafting="none", every=1, first=None, debias=True,
    override=None, momentum=0.0, nesterov=False, weight_decay=0.0, one_sided=False,
):  # fmt: skip
    shape, (b1, b2), b3 = w.shape, betas, betas[0] if beta3 is None else beta3
    first = every if first is None else first
    w = w.reshape(MERGED[shape])
    k = 1 if one_sided else w.ndim
    modes = [max(range(w.ndim), key=lambda i: (-w.shape[i], i))] if one_sided else range(w.ndim)
    factors, roots = {i: 0.0 for i in modes}, {i: np.eye(w.shape[i]) for i in modes}
    average, v, velocity = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream, start=1):
        g = g.reshape(w.shape)
        v = second_moments(grafting, v, g, 0.99)
        for i in modes:
            unfolded = np.moveaxis(g, i, 0).reshape(w.shape[i], -1)
            factors[i] = b2 * factors[i] + (1.0 if b2 == 1.0 else 1 - b2) * unfolded @ unfolded.T
        if t == first or (t > first and t % every == 0):
            correction = 1 - b2**t if debias and b2 < 1 else 1.0
            exponent = (override or {}).get(k, 1 / (2 * k))
            roots = {i: inverse_root(factors[i] / correction, exponent, epsilon) for i in modes}
        mixed = b3 * average + (1 - b3) * g
        average = b1 * average + (1 - b1) * g
        m = mixed / (1 - b3 * b1 ** (t - 1)) if debias else mixed
        d = m
        if grafting not in ("none", "sgd"):
            d = m / (np.sqrt(v / (1 - 0.99**t) if grafting == "adam" else v) + 1e-10)
        u = m
        for i in modes:
            u = np.moveaxis(np.tensordot(roots[i], u, axes=(1, i)), 0, i)
        if grafting != "none":
            u = d if t < first else u * np.linalg.norm(d) / (np.linalg.norm(u) + 1e-16)
        velocity = momentum * velocity + u
        step = u + momentum * velocity if nesterov else velocity
        w = (1 - lr * weight_decay) * w - lr * step
    return w.reshape(shape)


CASES = {
    "plain": ({"epsilon": 1e-4}, {"epsilon": 1e-4}),
    "averaged": ({"betas": (0.9, 0.95), "epsilon": 1e-3}, {"betas": (0.9, 0.95), "epsilon": 1e-3}),
    "undebiased": (
        {"betas": (0.8, 0.9), "epsilon": 1e-3, "use_bias_correction": False},
        {"betas": (0.8, 0.9), "epsilon": 1e-3, "debias": False},
    ),
    "adagrad": ({"grafting": "adagrad"}, {"grafting": "adagrad"}),
    "rmsprop": (
        {"grafting": "rmsprop", "grafting_beta2": 0.99, "beta3": 0.5, "betas": (0.9, 0.95)},
        {"grafting": "rmsprop", "beta3": 0.5, "betas": (0.9, 0.95)},
    ),
    "adam": (
        {"grafting": "adam", "grafting_beta2": 0.99, "momentum": 0.9, "use_nesterov": True},
        {"grafting": "adam", "momentum": 0.9, "nesterov": True},
    ),
    "sgd": (
        {"grafting": "sgd", "start_preconditioning_step": 4, "precondition_frequency": 3, "epsilon": 1e-3},
        {"grafting": "sgd", "first": 4, "every": 3, "epsilon": 1e-3},
    ),
    "override": (
        {"inverse_exponent_override": {2: 0.5, 1: 0.25}, "epsilon": 1e-3},
        {"override": {2: 0.5, 1: 0.25}, "epsilon": 1e-3},
    ),
    "one-sided": ({"one_sided": True, "epsilon": 1e-3}, {"one_sided": True, "epsilon": 1e-3}),
    "rare": (
        {"precondition_frequency": 5, "grafting": "adam", "grafting_beta2": 0.99},
        {"every": 5, "grafting": "adam"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_a_plain_loop(case):
    ours, theirs = CASES[case]
    stream = with_gaps(gradients(20)) if "every" not in theirs else gradients(20)

    def make(params):
        optimizer = DistributedShampoo(
            params, lr=0.01, weight_decay=0.1, max_preconditioner_dim=9, target_parameter_dimensionality=2,
            eigenvalue_floor=0.0, **ours,
        )  # fmt: skip
        cadence = dataclasses.replace(
            optimizer._rules[0].method.cadence, stagger=False
        )  # refreshes at the paper's steps
        return Optimizer(
            params, dataclasses.replace(optimizer._rules[0].method, cadence=cadence), lr=0.01, weight_decay=0.1
        )

    expected = each(lambda w, gs: reference(w, gs, 0.01, weight_decay=0.1, **theirs), stream, start())
    assert_close(run(make, stream, start()), expected, 1e-7)  # gradients of rank one, and eigenvalues of 1e-12


@pytest.mark.parametrize(
    ("dims", "limit", "fewest", "merged"),
    [
        ((1, 2, 5, 1), 10, 1, (10,)),
        ((1, 2, 5, 1), 1, 1, (2, 5)),
        ((32, 3, 64, 64), 8192, 1, (96, 4096)),
        ((32, 3, 64, 64), 1_000_000, 2, (32, 12_288)),
        ((16, 16), 256, 1, (256,)),
        ((16, 16), 256, 2, (16, 16)),
        ((1, 1), 128, 1, (1,)),
        ((), 128, 1, (1,)),
        ((300,), 128, 1, (300,)),
        ((5, 300, 2), 128, 1, (5, 300, 2)),
        ((64, 16, 3, 3), 128, 2, (64, 16, 9)),
        ((2, 3, 4), 100, 3, (2, 3, 4)),
    ],
)
def test_axes_are_merged_from_right_to_left(dims, limit, fewest, merged):
    assert merge_last_dims(dims, limit, fewest) == merged


def test_every_tile_is_grafted_on_its_own():
    stream = gradients(6, [(4, 6)])
    ours = run(
        lambda ps: DistributedShampoo(
            ps, lr=0.1, max_preconditioner_dim=3, betas=(0.0, 1.0), grafting="sgd", eigenvalue_floor=0.0
        ),
        stream,
        start([(4, 6)]),
    )
    w = start([(4, 6)])[0].detach().numpy().copy()
    factors = {(i, j): [np.zeros((2, 2)), np.zeros((3, 3))] for i in range(2) for j in range(2)}
    for (g,) in stream:
        for (i, j), (left, right) in factors.items():
            tile = (slice(2 * i, 2 * i + 2), slice(3 * j, 3 * j + 3))
            left += g[tile] @ g[tile].T
            right += g[tile].T @ g[tile]
            u = inverse_root(left, 0.25, 1e-12) @ g[tile] @ inverse_root(right, 0.25, 1e-12)
            w[tile] -= 0.1 * u * np.linalg.norm(g[tile]) / np.linalg.norm(u)
    assert_close(ours, [w], 1e-7)


def test_noise_is_not_divided_by():
    """In the null space of a factor, single precision has nothing but rounding errors to scale up."""
    v = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factor = v.mT @ v
    floored = Damped(1e-12)(factor[None].float(), 2.0)[0]
    raw = Damped(1e-12, floor=0.0)(factor[None].float(), 2.0)[0]
    bound = (1e-6 * float(v.square().sum())) ** -0.5
    assert float(torch.linalg.matrix_norm(floored, 2)) < 1.1 * bound
    assert float(torch.linalg.matrix_norm(raw, 2)) > 10 * bound


def test_adaptive_qr_is_one_qr_iteration_where_the_basis_is_bad():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((3, 5, 5)))
    a = q * np.array([5.0, 3.0, 1.0, 0.5, 0.1]) @ q.mT
    basis = np.linalg.qr(q + 0.2 * rng.standard_normal((3, 5, 5)))[0]
    basis[0] = q[0] + 1e-3 * rng.standard_normal((5, 5))  # good enough
    values, ours, failed, moved = adaptive_qr(torch.tensor(a), torch.tensor(basis), 0.05)
    assert moved.tolist() == [False, True, True]
    assert not bool(failed.any())
    for i in (0, 1, 2):
        b = basis[i].T @ a[i] @ basis[i]
        off = np.linalg.norm(b - np.diag(np.diag(b))) / np.linalg.norm(b)
        assert np.isclose(float(off_diagonal_mass(torch.tensor(b)[None])), off, rtol=1e-10)
        expected = basis[i]
        if i:
            u, r = np.linalg.qr(b)
            b, expected = r @ u, basis[i] @ u
        order = np.argsort(-np.diag(b))
        np.testing.assert_allclose(values[i], np.diag(b)[order], rtol=1e-10)
        np.testing.assert_allclose(np.abs(ours[i].numpy()), np.abs(expected[:, order]), rtol=0, atol=1e-12)


def test_adaptive_refresh_with_zero_tolerance_and_many_iterations_is_exact():
    shapes = [(4, 3), (5,)]
    stream = gradients(6, shapes)
    exact = Kronecker(beta=0.9, eps=0.0, root=Damped(1e-3))
    warm = dataclasses.replace(exact, root=AdaptiveQR(0.0, iterations=200, damping=1e-3))
    base = shampoo()
    ours, theirs = (
        run(lambda ps, p=p: Optimizer(ps, dataclasses.replace(base, preconditioner=p), lr=0.01), stream, start(shapes))
        for p in (warm, exact)
    )
    assert_close(ours, theirs, 1e-6)


def test_qr_iterations_are_saved_while_the_basis_is_good(monkeypatch):
    """Gradients with fixed singular vectors: once the basis is found, no QR is made any more."""
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    stream = [[u * np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.1]) * (1 + 0.1 * rng.random()) @ v.T] for _ in range(40)]
    made = []
    qr = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda a, **kw: (made.append(len(a)), qr(a, **kw))[1])
    method = distributed_shampoo(adaptive=0.1, fewest_axes=2, graft="sgd")
    params = [torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)]
    run(lambda ps: Optimizer(ps, method, lr=0.01), stream, params)
    assert 2 <= len(made) <= 16, "of 80 refreshes of a factor"


@dataclasses.dataclass(frozen=True)
class Failing(InverseRoot):
    """Takes the first roots and no others, for the members that are asked for."""

    calls: list
    fails: tuple[bool, ...] = (True,)
    recovers_at: int = 0

    def __call__(self, matrices, p, basis=None):
        self.calls.append(1)
        roots, failed = Damped(1e-3)(matrices, p)
        if len(self.calls) > 1 and len(self.calls) != self.recovers_at:
            failed = torch.tensor([self.fails[i % len(self.fails)] for i in range(len(failed))])
        return torch.where(failed[:, None, None], torch.nan, roots), failed


def with_root(root, tolerated, **options):
    """Distributed Shampoo on vectors, which have one factor, with a given root."""
    method = distributed_shampoo(tolerated=tolerated, **options)
    merged = method.preconditioner
    tiles = dataclasses.replace(merged.inner, inner=dataclasses.replace(merged.inner.inner, root=root))
    return dataclasses.replace(method, preconditioner=dataclasses.replace(merged, inner=tiles))


def test_failures_keep_the_last_root_until_there_are_too_many_in_a_row():
    stream = gradients(6, [(5,)])
    params = start([(5,)])
    optimizer = Optimizer(params, with_root(Failing([]), 2, b1=0.0), lr=0.01)
    w, factor = params[0].detach().numpy().copy(), 0.0
    for t, (g,) in enumerate(stream):
        params[0].grad = torch.tensor(g)
        if t == 3:
            with pytest.raises(RefreshError, match="3 failures in a row"):
                optimizer.step()
            break
        optimizer.step()
        if t == 0:
            factor = inverse_root(np.outer(g, g), 0.5, 1e-3)
        w = w - 0.01 * factor @ g
        assert_close([params[0].detach().numpy()], [w], 1e-8)
    assert optimizer.work.refresh_failures == 3


def test_a_success_starts_the_count_again_and_members_are_counted_apart():
    stream = gradients(8, [(5,), (5,)])
    params = start([(5,), (5,)])
    root = Failing([], fails=(False, True), recovers_at=4)
    optimizer = Optimizer(params, with_root(root, 2, b1=0.0), lr=0.01)
    for t, given in enumerate(stream):
        for param, g in zip(params, given, strict=True):
            param.grad = torch.tensor(g)
        if t == 6:  # fails at steps 2, 3, then 5, 6, 7 counted from 1
            with pytest.raises(RefreshError):
                optimizer.step()
            break
        optimizer.step()
    counters = [optimizer.state[p]["preconditioner.inner.inner.failures"].item() for p in params]
    assert counters[0] == 0


def test_grafted_steps_have_the_length_of_adam():
    stream = gradients(15, [(8, 6)])
    params = start([(8, 6)])
    ours = DistributedShampoo(params, lr=1.0, grafting="adam", target_parameter_dimensionality=2)
    twin = start([(8, 6)])
    adam = torch.optim.Adam(twin, lr=1.0, betas=(0.9, 0.999), eps=1e-10)
    for (g,) in stream:
        before, before_twin = params[0].detach().clone(), twin[0].detach().clone()
        params[0].grad, twin[0].grad = torch.tensor(g), torch.tensor(g)
        ours.step()
        adam.step()
        length, expected = (params[0].detach() - before).norm(), (twin[0].detach() - before_twin).norm()
        assert abs(float(length / expected) - 1) < 1e-8


def test_headline_grafted_onto_adam_it_beats_adam():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(-2.5, 0.1, 0.5)
    method = distributed_shampoo(b2=0.95, graft="adam", graft_b2=0.95, every=10, fewest_axes=2)
    ours = problem.best(lambda ps, lr: Optimizer(ps, method, lr=lr), lrs, 200, linear_decay=True)
    adam = problem.best(lambda ps, lr: torch.optim.Adam(ps, lr=lr, betas=(0.9, 0.95)), lrs, 200, linear_decay=True)
    assert ours < adam


def test_shampoo_has_the_same_savings():
    """Merged axes, tiles and one side are compositions that Shampoo takes, too."""
    stream = gradients(6, [(4, 2, 3, 3)])
    whole = run(lambda ps: Shampoo(ps, merge_dims=9, block_size=4, one_sided=True), stream, start([(4, 2, 3, 3)]))
    w = start([(4, 2, 3, 3)])[0].detach().numpy().reshape(8, 9).copy()
    factors = {}
    for (g,) in stream:
        g = g.reshape(8, 9)
        for i in (0, 4):
            for j in (0, 3, 6):
                tile = (slice(i, i + 4), slice(j, j + 3))
                factors[i, j] = factors.get((i, j), 1e-4 * np.eye(3)) + g[tile].T @ g[tile]
                w[tile] -= 0.1 * g[tile] @ inverse_root(factors[i, j], 0.5, 0.0)
    assert_close(whole, [w.reshape(4, 2, 3, 3)], 1e-9)


def test_refusals():
    w = [torch.zeros(2, 2, requires_grad=True)]
    with pytest.raises(BadInputError, match="rmsprop"):
        DistributedShampoo(w, grafting="lion")
    with pytest.raises(BadInputError, match="Route"):
        DistributedShampoo(w, inverse_exponent_override={2: 0.0})
    with pytest.raises(BadInputError, match="1 or later"):
        DistributedShampoo(w, start_preconditioning_step=0)
