"""Newton-Schulz steps on the Gram matrix are the same steps, for fewer multiplications."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.math.factors.polar import FIVE_QUINTICS, MUON, POLAR_EXPRESS, TURBO, polar
from precond.math.factors.polar_gram import operations, restarts
from precond.preconditioners.polar import Polar

ITERATIONS = {"muon": (MUON, 5), "five": (FIVE_QUINTICS, 5), "express": (POLAR_EXPRESS, 12), "turbo": (TURBO, 4)}


def graded(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A matrix with singular values from 1 to 1e-7."""
    rng = np.random.default_rng(seed)
    short = min(rows, columns)
    u, v = (np.linalg.qr(rng.standard_normal((n, short)))[0] for n in (rows, columns))
    return torch.tensor(u * np.logspace(0, -7, short) @ v.T)


def by_singular_values(matrix: torch.Tensor, coefficients, steps: int) -> np.ndarray:
    """What the polynomials do to the singular values, one by one."""
    u, s, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    s = s / (np.linalg.norm(s) + 1e-7)
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        s = a * s + b * s**3 + c * s**5
    return u * s @ vt


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (8, 8), (1, 5), (5, 1)])
def test_does_to_singular_values_what_the_polynomials_say(shape):
    matrix = graded(*shape)
    ours = polar(matrix, 5, form="gram").numpy()
    np.testing.assert_allclose(ours, by_singular_values(matrix, MUON.coefficients, 5), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ITERATIONS)
@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 48, 16), (4, 10, 10)])
def test_equals_steps_with_the_matrix(name, shape):
    iteration, steps = ITERATIONS[name]
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = (polar(matrices, steps, iteration, form=form) for form in ("gram", "matrix"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ITERATIONS)
def test_single_precision_survives_tiny_singular_values(name):
    """Rounding pushes eigenvalues of the Gram matrix below zero; without restarts twelve steps blow them up."""
    iteration, steps = ITERATIONS[name]
    matrix = graded(24, 96)
    exact = polar(matrix, steps, iteration, form="matrix")
    error = (polar(matrix.float(), steps, iteration, form="gram").double() - exact).norm() / exact.norm()
    assert error < 0.02


def test_half_precision_is_better_than_bfloat16_steps():
    matrix = torch.randn(32, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = polar(matrix, 5, form="matrix")
    half = polar(matrix.float(), 5, dtype=torch.float16, form="gram").double() - exact
    brain = polar(matrix.float(), 5, dtype=torch.bfloat16, form="matrix").double() - exact
    assert half.norm() < 0.5 * brain.norm()


def test_starts_afresh_where_the_published_code_does_in_half_precision():
    assert restarts(POLAR_EXPRESS.quintics(5), torch.float16) == {2}
    assert restarts(FIVE_QUINTICS.quintics(5), torch.float16) == {2}
    assert not restarts(MUON.quintics(5), torch.float32)


SPECTRA = {
    "random": None,
    "slow decay": np.arange(1, 129) ** -1.0,
    "fast decay": np.exp(-np.arange(128) / 16),
    "one large": np.where(np.arange(128) < 1, 1.0, 0.1),
    "eight large": np.where(np.arange(128) < 8, 1.0, 0.01),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("iteration", [MUON, FIVE_QUINTICS, TURBO], ids=["muon", "five", "turbo"])
def test_one_fresh_start_in_bfloat16_is_as_near_to_the_polar_factor(iteration, spectrum):
    """As steps that round nothing, and as steps in bfloat16 with the matrix, such as `torch.optim.Muon` takes."""
    steps = len(iteration.coefficients) if iteration is TURBO else 5
    matrix = torch.randn(128, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = values if SPECTRA[spectrum] is None else torch.tensor(SPECTRA[spectrum])
    matrix = u * values @ vt
    rounded = {
        form: polar(matrix.float(), steps, iteration, dtype=torch.bfloat16, form=form) for form in ("gram", "matrix")
    }
    assert len(restarts(iteration.quintics(steps), torch.bfloat16)) == 1
    error, best = (float((x.double() - u @ vt).norm()) for x in (rounded["gram"], polar(matrix, steps, iteration)))
    plain = float((rounded["matrix"].double() - u @ vt).norm())
    assert error < 1.05 * max(best, plain) + 0.005 * 128**0.5


def test_multiplications_are_counted_as_they_are_made(monkeypatch):
    made = 0
    bmm, baddbmm = torch.bmm, torch.baddbmm

    def count(a, b):
        nonlocal made
        made += a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]

    monkeypatch.setattr(torch, "bmm", lambda a, b, **kw: (count(a, b), bmm(a, b, **kw))[1])
    monkeypatch.setattr(torch, "baddbmm", lambda c, a, b, **kw: (count(a, b), baddbmm(c, a, b, **kw))[1])
    for iteration, steps in ITERATIONS.values():
        if iteration.scaling == "aol":  # its first Gram matrix comes from the scaling
            continue
        for shape in ((6, 6), (6, 40), (40, 6)):
            for dtype in (torch.float32, torch.float64):
                counted = operations(*shape, iteration.quintics(steps), dtype)
                for form, expected in zip(("matrix", "gram"), counted, strict=True):
                    made = 0
                    polar(torch.randn(shape, dtype=dtype), steps, iteration, form=form)
                    assert made == expected


def test_gram_matrices_of_single_precision_stay_in_it_on_processors(monkeypatch):
    import precond.math.factors.polar as module

    monkeypatch.setattr(module, "_working_dtype", lambda matrices: torch.bfloat16)
    x = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(polar(x, form="gram"), polar(x, form="gram", dtype=torch.float32))
    assert torch.equal(polar(x, form="matrix"), polar(x, form="matrix", dtype=torch.bfloat16))


def test_auto_takes_the_cheaper(monkeypatch):
    import precond.math.factors.polar as module

    taken = []
    inner = module.iterate_gram
    monkeypatch.setattr(module, "iterate_gram", lambda *args: (taken.append(1), inner(*args))[1])
    polar(torch.randn(8, 32, dtype=torch.float64))
    polar(torch.randn(8, 32), dtype=torch.bfloat16)
    assert len(taken) == 2
    polar(torch.randn(8, 8, dtype=torch.float64))
    polar(torch.randn(8, 12), dtype=torch.bfloat16)
    assert len(taken) == 2


@pytest.mark.parametrize("name", ["muon", "five", "turbo"])
@pytest.mark.parametrize("kind", ["gaussian", "graded", "low rank", "constant", "one row"])
def test_bfloat16_steps_on_the_gram_matrix_lose_no_more_than_steps_with_the_matrix(name, kind):
    """Twice the rounding at most where there is little, and no singular value above what the polynomials allow."""
    iteration, steps = ITERATIONS[name]
    draw = torch.Generator().manual_seed(3)
    gaussian = torch.randn(40, 120, generator=draw, dtype=torch.float64)
    matrix = {
        "gaussian": gaussian,
        "graded": graded(40, 120),
        "low rank": gaussian[:, :4] @ gaussian[:4] + 0.01 * gaussian,
        "constant": torch.ones_like(gaussian),
        "one row": gaussian * (torch.arange(40) == 0)[:, None],
    }[kind]
    exact = polar(matrix, steps, iteration, form="matrix")
    ours, plain = (
        polar(matrix.float(), steps, iteration, dtype=torch.bfloat16, form=form).double() for form in ("gram", "matrix")
    )
    assert (ours - exact).norm() < 1.2 * (plain - exact).norm() + 0.1 * exact.norm()
    assert torch.linalg.matrix_norm(ours, 2) < 1.25


def test_bad_members_stay_alone_and_zero_stays_zero():
    matrices = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(2))
    expected = polar(matrices[2], form="gram")
    matrices[0], matrices[1] = 0.0, torch.nan
    ours = polar(matrices, form="gram")
    assert torch.equal(ours[0], torch.zeros(4, 12))
    assert bool(ours[1].isnan().all())
    torch.testing.assert_close(ours[2], expected)
    assert polar(torch.zeros(0, 4, 6), form="gram").shape == (0, 4, 6)


def test_unknown_forms_are_refused():
    with pytest.raises(BadInputError, match="gram"):
        Polar(form="square")
    with pytest.raises(ValueError, match="gram"):
        polar(torch.zeros(2, 2), form="square")


@pytest.mark.parametrize("form", ["matrix", "gram"])
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1e25])
def test_sums_of_squares_neither_overflow_nor_vanish(size, form):
    """Only the norm that is added to in dividing, 1e-7, makes factors of tiny matrices small."""
    matrix = torch.randn(6, 16, generator=torch.Generator().manual_seed(4))
    ours = polar(matrix * size, 5, form=form, dtype=torch.float32)
    large = (matrix.double() * size).numpy()
    u, s, vt = np.linalg.svd(large, full_matrices=False)
    s = s / (np.linalg.norm(large) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = torch.tensor(u * s @ vt, dtype=torch.float32)
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=1e-4 * float(expected.abs().max()))
