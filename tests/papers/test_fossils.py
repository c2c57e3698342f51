"""FOSSILS and SPIR against the paper's loop in NumPy, and against exact backward errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Status
from precond.krylov import Refinement
from precond.operators import as_operator
from tests.papers.sketch_toys import UNIT, backward_error, tall


def stage(a, g, p, beta, steps):
    """Return the iterates of one stage on ``A'A d = g`` with ``P``: the paper's heavy ball, or textbook CG."""
    d, before, seen = np.zeros(len(g)), np.zeros(len(g)), []
    r = g.copy()
    z = p @ r
    direction, rho = z, r @ z
    for _ in range(steps):
        if beta is None:
            q = a.T @ (a @ direction)
            alpha = rho / (direction @ q)
            d, r = d + alpha * direction, r - alpha * q
            z = p @ r
            direction, rho = z + (r @ z) / rho * direction, r @ z
        else:
            d, before = d + (1 - beta) ** 2 * (p @ (g - a.T @ (a @ d))) + beta * (d - before), d
        seen.append(d)
    return seen


def sketched_inverse(a, size, seed=0):
    """Return ``(A'S'SA)^-1`` for a normal sketch."""
    s = np.random.default_rng(seed).standard_normal((size, len(a))) / size**0.5
    return np.linalg.inv((s @ a).T @ (s @ a))


@pytest.mark.parametrize("beta", [None, 1 / 12])
def test_follows_the_paper_step_by_step(beta):
    a, b = tall(300, 6, 10.0, 0.5)
    p = sketched_inverse(a, 72)
    x0 = np.full(6, 0.1)
    running = Refinement(momentum=beta).iterate(
        as_operator(a), torch.from_numpy(b)[None], lambda v: v @ torch.from_numpy(p), torch.from_numpy(x0)[None]
    )
    start = next(running)
    assert float(start.residual) == pytest.approx(np.linalg.norm(b - a @ x0))
    want = stage(a, a.T @ (b - a @ x0), p, beta, 12)
    for d, progress in zip(want, running, strict=False):
        np.testing.assert_allclose(progress.solution()[0], x0 + d, rtol=1e-8, atol=1e-12)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ (x0 + d)), rel=1e-8)


def test_the_second_stage_starts_from_a_new_residual():
    a, b = tall(300, 6, 1e6, 0.5)
    p = sketched_inverse(a, 120)
    calls = []

    def precondition(v):
        calls.append(v.numpy().copy())
        return v @ torch.from_numpy(p)

    *_, last = Refinement().iterate(as_operator(a), torch.from_numpy(b)[None], precondition, torch.zeros(1, 6).double())
    assert last.solved
    assert backward_error(a, b, last.solution()[0].numpy()) < 4 * UNIT
    one = [*Refinement(stages=1).iterate(as_operator(a), torch.from_numpy(b)[None], precondition, last.solution() * 0)]
    assert one[-1].solved


CASES = [
    (1e2, 1e-3, False),
    (1e6, 1.0, False),
    (1e10, 1e-3, False),
    (1e12, 1e-6, False),
    (1e12, 1e-3, True),
    (1e15, 1e-3, False),
]


@pytest.mark.parametrize("method", ["spir", "fossils", "auto"])
@pytest.mark.parametrize(("condition", "residual", "coherent"), CASES)
def test_is_backward_stable(method, condition, residual, coherent):
    """The headline: the backward error of a direct method, for every condition and size of residual."""
    a, b = tall(3000, 25, condition, residual, coherent=coherent)
    result = precond.lstsq(a, b, method=method)
    assert result.converged, result.message
    assert backward_error(a, b, result.x) < 10 * UNIT
    assert result.certificate.extra["backward error"] < 10 * UNIT
    assert ("sketch-qr" in result.method) == (method != "auto")  # which has the factors of so small a matrix


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
@pytest.mark.parametrize("off", [1e-4, 1e-8])
def test_the_certified_backward_error_is_the_exact_one_within_a_small_factor(condition, off):
    a, b = tall(3000, 25, condition, 1e-2)
    x = precond.lstsq(a, b).x
    x += off * np.random.default_rng(1).standard_normal(25)
    result = precond.lstsq(a, b, method="spir", x0=x, max_iterations=0)
    scale = np.linalg.norm(a, axis=0)
    error = backward_error(a / scale, b, scale * x)
    assert 0.5 * error < result.certificate.extra["backward error"] < 2 * error


def test_columns_of_any_size_are_solved_for_alike():
    """As by QR, whose errors are small column by column."""
    a, b = tall(3000, 12, 1e4, 1e-2)
    scale = 10.0 ** np.arange(0, -60, -5)
    plain, scaled = precond.lstsq(a, b).x, precond.lstsq(a * scale, b).x * scale
    np.testing.assert_allclose(scaled, plain, rtol=1e-9)


def test_one_stage_of_lsqr_is_not():
    """What the paper improves upon: without refinement the backward error is far above rounding."""
    a, b = tall(3000, 25, 1e10, 1.0)
    p = torch.from_numpy(sketched_inverse(a, 500))
    from precond.krylov import LSQR, run

    progress, _ = run(
        LSQR(), as_operator(a), torch.from_numpy(b)[None], lambda v: v @ p, torch.zeros(1, 25).double(),
        stop=lambda progress: False, max_iterations=60,
    )  # fmt: skip
    assert backward_error(a, b, progress.solution()[0].numpy()) > 1e3 * UNIT


def test_a_tolerance_below_rounding_is_certified_by_the_backward_error():
    a, b = tall(3000, 25, 1e10, 1e-3)
    result = precond.lstsq(a, b, method="spir", rtol=1e-15)
    assert result.status is Status.CONVERGED_BACKWARD, result.message
    assert result.certificate.value <= 1e-15


def test_momentum_without_a_sketch_falls_back_to_conjugate_gradients():
    a, b = tall(200, 6, 30.0, 0.5)
    result = precond.lstsq(a, b, method=Refinement(momentum=1 / 12), preconditioner="jacobi", rtol=1e-12)
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-9)


def test_dependent_columns_are_left_out_and_said_so():
    a, b = tall(2000, 10, 10.0, 0.5)
    a = np.column_stack([a, a[:, :2] @ np.ones(2), np.zeros(len(a))])
    result = precond.lstsq(a, b, method="spir")
    assert result.converged, result.message
    assert "2 of 12 directions" in result.method
    np.testing.assert_allclose(a @ result.x, a @ np.linalg.lstsq(a, b, rcond=None)[0], atol=1e-10)
    assert result.x[-1] == 0


def test_several_right_hand_sides_are_solved_each_to_its_own_end():
    a, b = tall(2000, 12, 1e8, 1e-3)
    sides = np.stack([b, 1e6 * (a @ np.ones(12)), np.zeros(2000), b[::-1]], axis=1)
    result = precond.lstsq(a, sides, method="spir")
    assert result.converged
    for k in (0, 3):
        assert backward_error(a, sides[:, k], result.x[:, k]) < 10 * UNIT
    assert np.linalg.norm(sides[:, 1] - a @ result.x[:, 1]) <= 1e-15 * np.linalg.norm(sides[:, 1])
    assert not result.x[:, 2].any()


@pytest.mark.parametrize("bad", [{"stages": 0}, {"limit": 0}, {"momentum": 1.0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(BadInputError):
        Refinement(**bad)


@pytest.mark.parametrize("good", [0, 2])
def test_a_preconditioner_that_is_not_definite_is_reported_from_any_step(good):
    a = torch.randn(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    left = [10**9]  # applications that are definite; those before the first step estimate the condition

    def precondition(g):
        left[0] -= 1
        return g if left[0] >= 0 else -g

    zero, b = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 40, dtype=torch.float64)
    steps = Refinement(limit=20).iterate(as_operator(a), b, precondition, zero)
    assert next(steps).failure is None
    left[0] = good
    assert [step.failure for step in steps][-1] is Status.FAILED_INDEFINITE_PRECONDITIONER
