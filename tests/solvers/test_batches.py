"""``precond.solve`` on batches of dense systems: every member for itself, whatever its neighbours are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status

rng = np.random.default_rng(3)


@pytest.fixture(params=[32, 120], autouse=True, ids=["apart", "together"])
def _largest_together(request, monkeypatch):
    """Members of up to so many unknowns are factorized by one call; middling ones are tested both ways."""
    monkeypatch.setattr("precond.solvers.systems.batch_direct._tiny", request.param)


def definite(members, n, condition=50.0, dtype=float):
    parts = rng.standard_normal((members, n, n))
    if np.dtype(dtype).kind == "c":
        parts = parts + 1j * rng.standard_normal((members, n, n))
    q = np.linalg.qr(parts)[0]
    a = (q * np.geomspace(1 / condition, 1, n)) @ q.conj().transpose(0, 2, 1)
    return ((a + a.conj().transpose(0, 2, 1)) / 2).astype(dtype)


def residuals(a, b, x):
    b, x = (np.asarray(v)[..., None] if np.ndim(v) < np.ndim(a) else np.asarray(v) for v in (b, x))
    return (np.linalg.norm(b - a @ x, axis=-2) / np.linalg.norm(b, axis=-2)).max(axis=-1)


@pytest.mark.parametrize("n", [1, 5, 40, 130])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_member_is_solved(n, dtype, symmetric):
    a = definite(6, n, dtype=dtype)
    if not symmetric:
        a = (a @ a + 0.3 * rng.standard_normal((6, n, n)) / n**0.5 * a).astype(dtype)
    b = rng.standard_normal((6, n)).astype(dtype)
    rtol = 1e-4 if np.finfo(dtype).bits == 32 else 1e-11
    result = precond.solve(a, b, rtol=rtol)
    assert result.converged, result.message
    assert result.x.shape == b.shape
    assert result.x.dtype == dtype
    assert len(result.members) == 6
    assert all(member.converged for member in result.members)
    found = residuals(a.astype(complex), b, result.x)
    assert (found <= rtol * (1 + 1e-6)).all()
    assert result.certificate.value == pytest.approx(found.max(), rel=0.05, abs=2e-12)


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab", "richardson"])
@pytest.mark.parametrize("preconditioner", ["auto", "identity", "ssor"])
@pytest.mark.parametrize("n", [6, 40])
def test_iterations_in_tiles_and_alone(method, preconditioner, n):
    a, b = np.concatenate([definite(10, n, 4.0), definite(10, n, 1.0 + 1e-7)]), rng.standard_normal((20, n, 2))
    result = precond.solve(a, b, method=method, preconditioner=preconditioner, rtol=1e-9)
    assert result.converged, result.message
    assert (residuals(a, b, result.x) <= 1e-9).all()
    assert len({member.iterations for member in result.members}) > 1  # each has its own count
    assert result.iterations == max(member.iterations for member in result.members)


def troublesome(n):
    """Return ten systems, of which only numbers 0, 3, 6 and 9 are good."""
    a, b = definite(10, n), rng.standard_normal((10, n))
    a[1, 2, 3] = np.nan
    a[2] = 0
    a[4] = np.outer(b[4], b[4])
    b[5, 1] = np.inf
    a[7] = definite(1, n, condition=1e18)[0]
    a[8] -= 0.3 * np.eye(n)  # indefinite, with positive diagonal entries in part
    return a, b


@pytest.mark.parametrize("n", [8, 60])
@pytest.mark.parametrize("method", ["auto", "cg", "minres", "gmres"])
def test_bad_members_do_not_harm_their_neighbours(n, method):
    a, b = troublesome(n)
    b[4] = rng.standard_normal(n)
    result = precond.solve(a, b, method=method, rtol=1e-9)
    assert not result.converged
    assert np.isfinite(a[[0, 3, 6, 9]]).all()
    for number in (0, 3, 6, 9):
        assert result.members[number].converged, (number, result.members[number].message)
        assert residuals(a[number], b[number], result.x[number]) <= 1e-9
        alone = precond.solve(a[number : number + 1], b[number : number + 1], method=method, rtol=1e-9)
        np.testing.assert_allclose(result.x[number], alone.x[0], rtol=1e-5, atol=1e-6)
    for number in (1, 5):
        assert result.members[number].status is Status.FAILED_NON_FINITE
        assert np.isnan(result.x[number]).all()
    for number in (2, 4):
        assert result.members[number].status.group != "converged"
    for member in result.members:
        assert member.converged == bool(member.certificate.value <= member.certificate.bound)
    if method == "auto":  # a factorization with pivots does not mind
        assert result.members[8].converged
    assert not result.members[8].converged or residuals(a[8], b[8], result.x[8]) <= 1e-9


def test_forms():
    a, b = definite(6, 7), rng.standard_normal((6, 7))
    plain = precond.solve(a, b).x
    np.testing.assert_allclose(precond.solve(a.tolist(), b.tolist()).x, plain)
    np.testing.assert_allclose(precond.solve(torch.from_numpy(a), torch.from_numpy(b)).x.numpy(), plain)
    nested = precond.solve(a.reshape(2, 3, 7, 7), b.reshape(2, 3, 7))
    assert nested.x.shape == (2, 3, 7)
    np.testing.assert_allclose(nested.x.reshape(6, 7), plain)
    np.testing.assert_allclose(precond.solve(a, b[..., None]).x[..., 0], plain)
    shared = precond.solve(a, b[0])
    np.testing.assert_allclose(shared.x[0], plain[0])
    assert shared.x.shape == (6, 7)
    transposed = precond.solve(torch.from_numpy(a.transpose(0, 2, 1).copy()).mT, torch.from_numpy(b))
    np.testing.assert_allclose(transposed.x.numpy(), plain, rtol=1e-6)
    assert precond.solve(np.array([[[4]], [[2]]]), np.array([[2], [1]])).x.tolist() == [[0.5], [0.5]]
    zero = precond.solve(a, np.zeros((6, 7)), x0=b)
    assert zero.converged
    assert not zero.x.any()
    assert precond.solve(a, b, x0=plain).iterations == 0


def test_arguments_are_left_alone():
    a, b, x0 = definite(3, 40), rng.standard_normal((3, 40)), rng.standard_normal((3, 40))
    kept = a.copy(), b.copy(), x0.copy()
    for method in ("auto", "cg"):
        precond.solve(a, b, x0=x0, method=method)
    assert all((now == before).all() for now, before in zip((a, b, x0), kept, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((3, 4, 5)), np.ones((3, 4)), "lstsq"),
        (np.ones((3, 4, 4)), np.ones((2, 4)), "give b"),
        (np.ones((3, 4, 4)), np.ones((3, 5)), "give b"),
        (np.ones((0, 4, 4)), np.ones((0, 4)), "empty"),
        (np.ones((3, 4, 4)), 1j * np.ones((3, 4)), "complex"),
        (np.ones((3, 4, 4), np.float16), np.ones((3, 4)), "coarse"),
        (torch.eye(4).expand(3, 4, 4).to_sparse(), torch.ones(3, 4), "sparse"),
    ],
)
def test_bad_input_is_refused(a, b, words):
    with pytest.raises((BadInputError, IncompatibleError), match=words):
        precond.solve(a, b)


def test_a_method_for_symmetric_matrices_names_the_member_that_is_not():
    a = definite(4, 5)
    a[2, 0, 1] += 1
    with pytest.raises(IncompatibleError, match="member 2"):
        precond.solve(a, np.ones((4, 5)), method="cg")


def test_a_callback_stops():
    a, b = definite(5, 130), rng.standard_normal((5, 130))  # each alone
    seen = []
    result = precond.solve(a, b, callback=lambda event: seen.append(event.iteration) or event.iteration == 2)
    assert seen == [1, 2]
    assert [member.status is Status.STOPPED_USER for member in result.members] == [False, False, True, True, True]
    assert not result.converged


@pytest.mark.parametrize("method", ["auto", "cg"])
@pytest.mark.parametrize("n", [4, 40, 120])
def test_a_limit_on_iterations_holds_for_every_way(method, n):
    a, b = definite(3, n), rng.standard_normal((3, n))
    x0 = rng.standard_normal((3, n))
    x0[1] = np.linalg.solve(a[1], b[1])
    result = precond.solve(a, b, method=method, max_iterations=0, x0=x0)
    np.testing.assert_array_equal(result.x, x0)
    assert [member.converged for member in result.members] == [False, True, False]
    assert result.status is Status.STOPPED_STEPS
    assert result.iterations == 0
    assert precond.solve(a, b, method=method, max_iterations=1, rtol=1e-15).iterations <= 1


def test_factors_are_applied_as_often_as_allowed():
    a, b = definite(2, 130, condition=1e5), rng.standard_normal((2, 130))  # in single precision at first
    asked = {"rtol": 1e-9}
    steps = precond.solve(a, b, **asked).iterations
    assert steps > 1
    short = precond.solve(a, b, max_iterations=steps - 1, **asked)
    assert short.iterations == steps - 1
    assert short.status is Status.STOPPED_STEPS
    assert precond.solve(a, b, max_iterations=steps, **asked).converged


@pytest.mark.parametrize(("method", "n"), [("auto", 4), ("auto", 40), ("minres", 4)])
def test_gradients(method, n):
    a = torch.from_numpy(definite(3, n, condition=3.0)).requires_grad_()
    b = torch.from_numpy(rng.standard_normal((3, n, 2))).requires_grad_()
    weights = torch.from_numpy(rng.standard_normal((3, n, 2)))
    ours = torch.autograd.grad((precond.solve(a, b, method=method, rtol=1e-12).x * weights).sum(), (a, b))
    theirs = torch.autograd.grad((torch.linalg.solve(a, b) * weights).sum(), (a, b))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


def test_conjugate_gradients_are_chosen_where_they_cost_less():
    n = 560
    base = rng.standard_normal((n, n)) * 1e-3
    easy = np.stack([np.eye(n) * (k + 1) + base + base.T for k in range(3)])
    b = rng.standard_normal((3, n))
    result = precond.solve(easy, b)
    assert result.method.startswith("3 by cg")
    assert (residuals(easy, b, result.x) <= 1e-8).all()
    hard = definite(2, n, condition=1e3)
    assert precond.solve(hard, b[:2]).method.startswith("2 by factorizations")
    mixed = precond.solve(np.concatenate([easy, hard]), np.concatenate([b, b[:2]]))
    assert mixed.converged
    assert mixed.method.startswith("3 by cg, 2 by factorizations")


def test_members_without_a_factorization_are_solved_by_their_pseudoinverses():
    vandermonde = np.vander(np.linspace(0, 1, 40))
    singular = np.diag(np.r_[0.0, np.arange(1, 40)])
    matrices = np.stack([vandermonde, singular, singular])
    b = np.stack([vandermonde @ np.ones(40), np.r_[0.0, np.ones(39)], np.ones(40)])
    result = precond.solve(matrices, b)
    assert [member.converged for member in result.members] == [True, True, False]
    assert result.members[2].status is Status.FAILED_INCONSISTENT
    for a, x, side in zip(matrices[:2], result.x, b, strict=False):
        assert np.linalg.norm(side - a @ x) <= 1.01e-8 * np.linalg.norm(side)


@pytest.mark.parametrize("method", ["auto", "gmres"])
@pytest.mark.parametrize(("a", "b"), [(1, 1e-200), (1e-200, 1e-200), (1, 1e200), (1e200, 1e200), (1e200, 1e-200)])
def test_members_of_extreme_sizes_are_solved_in_units_of_their_own(method: str, a: float, b: float) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(4, 12, 12, dtype=torch.float64, generator=generator) + 6 * torch.eye(12)
    x = torch.randn(4, 12, dtype=torch.float64, generator=generator)
    right = (matrices @ x[..., None])[..., 0]
    matrices[1:3] *= a
    right[1:3] *= b
    result = precond.solve(matrices, right, method=method)
    assert [member.converged for member in result.members] == [True, b / a > 0, b / a > 0, True]
    torch.testing.assert_close(result.x[[0, 3]], x[[0, 3]], rtol=1e-6, atol=1e-6)
    if b / a > 0:
        torch.testing.assert_close(result.x[1:3] / (b / a), x[1:3], rtol=1e-6, atol=1e-6)
