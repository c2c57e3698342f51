"""The batched matrix functions over shapes, spectra and bad members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precond.math.averages import debias
from precond.math.factors import eigen
from precond.math.factors.eigen import all_eigenvectors, gram_eigenvectors, inf_norm, safe_eigh, singular_vectors
from precond.math.factors.polar import NewtonSchulz, polar, polar_exact
from precond.math.factors.roots import inverse_root, low_rank_inverse_root
from precond.math.factors.turns import power_qr, qr_turn
from precond.math.tensors.modes import add_gram, mode_products

quick = settings(max_examples=25, deadline=None)


def spd(batch: int, n: int, condition: float, size: float, seed: int, dtype=torch.float64) -> torch.Tensor:
    """Return matrices ``size * Q diag(1 .. 1/condition) Q^T``."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(batch, n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, -float(np.log10(condition)), n, dtype=torch.float64)
    return (size * (q * values) @ q.mT).to(dtype)


def refuse_batches(monkeypatch, refuse):
    """Make ``torch.linalg.eigh`` raise for the matrices that ``refuse`` picks, and for a batch that holds one."""
    real = torch.linalg.eigh

    def eigh(a):
        if any(refuse(member) for member in a):
            raise torch.linalg.LinAlgError("did not converge")
        return real(a)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)


# --- inverse roots ----------------------------------------------------------------------------------------------


@quick
@given(
    n=st.integers(1, 12), p=st.sampled_from([1, 2, 3, 4, 8]), decades=st.integers(0, 6), size=st.integers(-60, 60),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_pth_power_of_an_inverse_root_is_the_inverse(n, p, decades, size, seed):
    a = spd(2, n, 10.0**decades, 10.0**size, seed)
    root, failed = inverse_root(a, p)
    assert not failed.any()
    product = torch.linalg.matrix_power(root, p) @ a
    assert torch.allclose(product, torch.eye(n).double().expand_as(a), atol=1e-6)
    assert torch.allclose(root, root.mT, rtol=1e-12, atol=1e-12 * float(root.abs().max()))


@pytest.mark.parametrize(("condition", "tolerance"), [(1e3, 1e-4), (1e5, 1e-2)])
def test_float32_roots_are_as_good_as_their_condition_allows(condition, tolerance):
    a = spd(3, 32, condition, 1.0, 0)
    root, _ = inverse_root(a.float(), 4)
    exact, _ = inverse_root(a, 4)
    error = torch.linalg.matrix_norm(root.double() - exact) / torch.linalg.matrix_norm(exact)
    assert error.max() < tolerance


def test_roots_of_huge_and_tiny_float32_matrices_do_not_overflow():
    for size in (1e-37, 1e37):
        root, failed = inverse_root(spd(1, 8, 10.0, size, 0, torch.float32), 2)
        exact, _ = inverse_root(spd(1, 8, 10.0, size, 0), 2)
        assert not failed.any()
        assert torch.allclose(root.double(), exact, rtol=1e-3)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_roots_from_a_low_rank_are_the_roots(rank):
    generator = torch.Generator().manual_seed(rank)
    rows = torch.randn(3, 20, rank, dtype=torch.float64, generator=generator)
    ridge = torch.tensor([1e-4, 1.0, 1e3], dtype=torch.float64)
    matrices = rows @ rows.mT + ridge[:, None, None] * torch.eye(20, dtype=torch.float64)
    roots, failed = low_rank_inverse_root(matrices, 4, ridge, rank)
    assert not failed.any()
    torch.testing.assert_close(roots, inverse_root(matrices, 4)[0], rtol=1e-8, atol=1e-9)


def test_roots_from_a_low_rank_survive_bad_members():
    matrices = torch.eye(6).repeat(3, 1, 1)
    matrices[0, 0, 0] = float("nan")
    matrices[1] = 0
    roots, failed = low_rank_inverse_root(matrices, 2, torch.tensor([1.0, 0.0, 1.0]), 1)
    assert failed.tolist() == [True, False, False]
    torch.testing.assert_close(roots, torch.eye(6).repeat(3, 1, 1))


def test_roots_of_any_low_rank_take_products_of_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor gains ranks with every gradient, and kernels are kept for each shape that they have met."""
    shapes: set[tuple[int, ...]] = set()
    taken = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda a: shapes.add(tuple(a.shape)) or taken(a))
    matrices, ridge = torch.eye(200)[None], torch.ones(1)
    for rank in range(1, 101):
        roots, failed = low_rank_inverse_root(matrices, 4, ridge, rank)
        assert not failed.any()
        torch.testing.assert_close(roots, matrices)
    assert len(shapes) <= 10


def test_bad_members_of_a_batch_of_roots_leave_the_others_alone():
    a = spd(6, 5, 100.0, 3.0, 1)
    alone, _ = inverse_root(a[:1], 4)
    a[1] = 0.0
    a[2, 3, 3] = torch.nan
    a[3, 1, 1] = torch.inf
    v = torch.randn(5, dtype=torch.float64)
    a[4] = torch.outer(v, v)  # rank one
    a[5] = -a[5]
    roots, failed = inverse_root(a, 4, eps=1e-8)
    assert failed.tolist() == [False, False, True, True, False, False]
    assert torch.allclose(roots[0], alone[0], rtol=1e-8)
    assert torch.equal(roots[1:4], torch.eye(5).double().expand(3, 5, 5))
    assert torch.equal(roots[5], torch.eye(5).double())  # no positive eigenvalue: as if zero
    assert roots.isfinite().all()
    largest = torch.linalg.eigvalsh(roots[4])[-1]
    assert torch.isclose(largest, (1e-8 * v.dot(v)) ** -0.25)  # the floor is relative


# --- eigendecompositions ----------------------------------------------------------------------------------------


@quick
@given(n=st.integers(1, 10), size=st.integers(-150, 150), seed=st.integers(0, 99))
def test_safe_eigh_decomposes_at_any_size(n, size, seed):
    a = spd(3, n, 10.0, 10.0**size, seed)
    values, vectors, failed = safe_eigh(a)
    assert not failed.any()
    error = (vectors * values[:, None, :]) @ vectors.mT - a
    assert error.abs().max() <= 1e-12 * 10.0**size
    assert torch.all(values.diff(dim=-1) >= 0)


def test_safe_eigh_of_bad_members_returns_the_last_good_values():
    a = spd(4, 3, 10.0, 1.0, 0)
    a[1, 0, 0], a[2, 2, 1] = torch.nan, -torch.inf
    last = torch.full((4, 3), 7.0).double(), torch.full((4, 3, 3), 9.0).double()
    values, vectors, failed = safe_eigh(a, last)
    assert failed.tolist() == [False, True, True, False]
    assert (values[1:3] == 7).all()
    assert (vectors[1:3] == 9).all()
    good, _, _ = safe_eigh(a[[0, 3]])
    assert torch.equal(values[[0, 3]], good)


def test_a_batch_that_does_not_converge_is_split_and_only_the_culprit_fails(monkeypatch):
    a = spd(4, 3, 10.0, 1.0, 0)
    mark = a[2, 0, 0] / inf_norm(a)[2]
    refuse_batches(monkeypatch, lambda member: abs(float(member[0, 0]) - float(mark)) < 1e-3)
    values, vectors, failed = safe_eigh(a)
    assert failed.tolist() == [False, False, True, False]
    assert torch.equal(vectors[2], torch.eye(3).double())
    assert (values[2] == 0).all()
    assert values.isfinite().all()


def test_float64_is_tried_before_giving_up(monkeypatch):
    a = spd(2, 3, 10.0, 1.0, 0, torch.float32)
    refuse_batches(monkeypatch, lambda member: member.dtype == torch.float32)
    values, vectors, failed = safe_eigh(a)
    assert not failed.any()
    assert vectors.dtype == torch.float32
    assert torch.allclose((vectors * values[:, None, :]) @ vectors.mT, a, atol=1e-6)


def test_jitter_is_tried_first(monkeypatch):
    a = spd(2, 3, 10.0, 1.0, 0, torch.float32)
    seen = []
    real = torch.linalg.eigh

    def eigh(matrix):
        seen.append(matrix.clone())
        if len(seen) == 1:
            raise torch.linalg.LinAlgError("did not converge")
        return real(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    assert not safe_eigh(a)[2].any()
    difference = (seen[1] - seen[0]).diagonal(dim1=-2, dim2=-1)
    assert (difference >= 0).all()
    assert difference.max() > 0
    assert [jitter for jitter, _ in eigen._ATTEMPTS[:2]] == [0.0, 1.0]


@quick
@given(n=st.integers(1, 10), seed=st.integers(0, 99))
def test_power_qr_converges_to_the_sorted_eigenbasis(n, seed):
    a = spd(2, n, 3.0**n, 2.0, seed)
    basis = torch.eye(n).double().repeat(2, 1, 1)
    for _ in range(60):
        basis, order, failed = power_qr(a, basis)
        assert not failed.any()
    assert torch.allclose(basis.mT @ basis, torch.eye(n).double().expand_as(a), atol=1e-12)
    turned = basis.mT @ a @ basis
    assert torch.allclose(turned, torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1)), atol=1e-5)
    assert torch.all(turned.diagonal(dim1=-2, dim2=-1).diff(dim=-1) <= 1e-12)
    assert torch.equal(order, torch.arange(n).expand(2, n))


def test_power_qr_keeps_the_basis_of_members_that_are_not_finite_and_survives_zero():
    a = spd(3, 4, 10.0, 1.0, 0)
    a[1, 0, 0], a[2] = torch.nan, 0.0
    basis = torch.linalg.qr(torch.randn(3, 4, 4, dtype=torch.float64)).Q
    turned, order, failed = power_qr(a, basis)
    assert failed.tolist() == [False, True, False]
    assert torch.equal(turned[1], basis[1])
    assert torch.equal(order[1], torch.arange(4))
    assert torch.allclose(turned[2].T @ turned[2], torch.eye(4).double())
    assert torch.allclose(turned[0], power_qr(a[:1], basis[:1])[0][0])


def test_a_turn_is_a_step_of_power_qr_and_leads_to_its_coordinates():
    """Also where columns are replaced because nothing but rounding errors is left of them, and where a member fails."""
    a = spd(4, 6, 10.0, 1.0, 0)
    rows = a[1][:, :3]
    rows[1] = 0.9 * rows[0]
    a[1] = rows @ rows.T  # of rank three, and the second column a multiple of the first
    a[2, 3, 3] = torch.nan
    turn, turned, order, failed = qr_turn(a)
    identity = torch.eye(6).double().expand_as(a)
    for ours, theirs in zip((turn, order, failed), power_qr(a, identity), strict=True):
        assert torch.equal(ours, theirs)
    assert failed.tolist() == [False, False, True, False]
    assert not torch.equal(order[0], torch.arange(6))
    kept = ~failed
    assert torch.allclose(turned[kept], (turn.mT @ a @ turn)[kept], atol=1e-12)
    rounded = qr_turn(a, half=True)[1]
    assert torch.allclose(rounded[kept].double(), turned[kept], atol=0.02)


def test_a_member_that_is_not_finite_costs_the_batch_no_second_attempt(monkeypatch):
    a = spd(3, 4, 10.0, 1.0, 0)
    a[1, 0, 0] = torch.nan
    calls = []
    real = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrices: calls.append(len(matrices)) or real(matrices))
    assert safe_eigh(a)[2].tolist() == [False, True, False]
    assert calls == [3]


@pytest.mark.parametrize("shape", [(9, 9), (9, 5), (600, 4)])
def test_rounding_errors_do_not_choose_the_basis_of_a_null_space(shape):
    """As in a gradient that has fewer samples than rows, or comes out of a narrow layer, summed in two orders."""
    n, k = shape
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(2, n, 3, generator=generator).double() @ torch.randn(2, 3, k, generator=generator).double()
    low[1] = 0.0
    other = low * (1.0 + 1e-16 * torch.randn(low.shape, generator=generator).double()) + 1e-17
    found = []
    for rows in (low, other):
        vectors, failed = gram_eigenvectors(rows) if k < n else all_eigenvectors(rows @ rows.mT)
        assert not failed.any()
        torch.testing.assert_close(vectors.mT @ vectors, torch.eye(n).double().expand(2, n, n))
        left = torch.linalg.matrix_norm(rows - vectors[..., :3] @ (vectors[..., :3].mT @ rows))
        assert float(left.max()) < 1e-12 * n
        found.append(vectors[0])
    one, two = found
    torch.testing.assert_close(one * (one * two).sum(0).sign(), two, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize(("m", "n"), [(7, 7), (30, 12), (12, 30), (1, 5), (5, 1)])
@pytest.mark.parametrize("rank", [30, 3, 0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_decomposition_gives_the_bases_of_both_sides(m, n, rank, dtype):
    """Also where singular values range over more than their squares can in the precision, and without full rank."""
    rank = min(m, n, rank)
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(2, m, m, generator=generator, dtype=torch.float64))[0][..., :rank]
    right = torch.linalg.qr(torch.randn(2, n, n, generator=generator, dtype=torch.float64))[0][..., :rank]
    given = (left * torch.logspace(0, -6, max(rank, 1), dtype=torch.float64)[:rank]) @ right.mT
    u, v, failed = singular_vectors(given.to(dtype))
    assert not failed.any()
    rounding = 50 * torch.finfo(dtype).eps
    for basis, gram in ((u.double(), given @ given.mT), (v.double(), given.mT @ given)):
        torch.testing.assert_close(
            basis.mT @ basis, torch.eye(len(basis[0])).double().expand_as(basis), atol=rounding, rtol=0
        )
        rotated = basis.mT @ gram @ basis
        values = torch.linalg.eigvalsh(gram).flip(-1)
        torch.testing.assert_close(rotated, torch.diag_embed(values), atol=rounding, rtol=0)


def test_a_matrix_that_is_not_finite_leaves_both_bases_as_they_begin():
    given = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    given[1, 2, 3] = torch.inf
    u, v, failed = singular_vectors(given)
    assert failed.tolist() == [False, True, False]
    assert torch.equal(u[1], torch.eye(4))
    assert torch.equal(v[1], torch.eye(6))
    assert u.isfinite().all()
    assert v.isfinite().all()


def test_power_qr_keeps_the_order_of_a_member_whose_product_overflows():
    a = torch.full((1, 2, 2), 1.7e308, dtype=torch.float64)
    basis = torch.tensor([[[1.0, 1.0], [-1.0, 1.0]]], dtype=torch.float64) / 2**0.5  # the second column overflows
    turned, order, failed = power_qr(a, basis)
    assert failed.all()
    assert torch.equal(turned, basis)
    assert order.tolist() == [[0, 1]]


# --- polar factors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (48, 48)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_singular_values_of_a_gaussian_end_near_one(shape, dtype):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values = torch.linalg.svdvals(polar(x))
    if shape[0] != shape[1]:  # square Gaussian matrices have singular values that five steps do not lift
        assert values.min() > 0.6
    assert values.max() < 1.25
    assert torch.allclose(torch.linalg.svdvals(polar_exact(x)), torch.ones_like(values), atol=1e-5)


@quick
@given(m=st.integers(1, 9), n=st.integers(1, 9), seed=st.integers(0, 99), exact=st.booleans())
def test_polar_factors_turn_with_their_argument(m, n, seed, exact):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, m, n, generator=generator, dtype=torch.float64)
    left = torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    factor = polar_exact if exact else polar
    assert torch.allclose(factor(left @ x @ right), left @ factor(x) @ right, atol=1e-8)
    assert torch.allclose(factor(x.mT), factor(x).mT, atol=1e-10)


@pytest.mark.parametrize("size", [1e-3, 1e3, 1e200])
def test_polar_factors_ignore_the_size_of_their_argument(size):
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(polar(size * x, floor=0.0), polar(x, floor=0.0), rtol=1e-9, atol=1e-12)
    assert torch.allclose(polar(size * x), polar(x), atol=1e-4)
    assert torch.allclose(polar_exact(size * x), polar_exact(x), atol=1e-10)


def test_bad_members_of_a_batch_of_polar_factors_leave_the_others_alone():
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    x[1], x[2, 0, 0], x[3, 1, 1] = 0.0, torch.nan, torch.inf
    x[4] = torch.outer(torch.arange(3.0), torch.arange(4.0))
    for factor in (polar, polar_exact):
        result = factor(x)
        assert torch.allclose(result[0], factor(x[0]), atol=1e-6)
        assert (result[1] == 0).all()
        assert result[2].isnan().all()
        assert result[3].isnan().all()
        assert torch.linalg.matrix_rank(result[4], atol=1e-3) == 1


def test_polar_factors_of_odd_shapes():
    row = torch.tensor([[3.0, 4.0]]).double()
    assert torch.allclose(polar_exact(row), row / 5)
    assert torch.allclose(polar(row) / polar(row).norm(), row / 5)
    assert polar(torch.zeros(2, 0, 3)).shape == polar_exact(torch.zeros(2, 0, 3)).shape == (2, 0, 3)
    assert polar(torch.randn(2, 3, 4, 5)).shape == (2, 3, 4, 5)
    assert polar(torch.randn(4, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    for factor in (polar, polar_exact):
        with pytest.raises(ValueError, match="reshape"):
            factor(torch.zeros(3))


@pytest.mark.parametrize("size", [1e-20, 1e-13, 1e-8, 1.0, 1e8, 1e14])
@pytest.mark.parametrize("margin", [1.0, 1.25])
def test_matrices_are_divided_by_their_norm_times_a_margin_and_a_floor_whatever_their_size(size, margin):
    """With the polynomial x the iteration returns the scaled matrix itself."""
    scale_only = NewtonSchulz(((1.0, 0.0, 0.0),), margin=margin)
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = size * x / torch.linalg.matrix_norm(x, keepdim=True)
    for floor in (1e-7, 0.0):
        expected = x / (margin * size + floor)
        assert torch.allclose(polar(x, 1, scale_only, floor=floor), expected, rtol=1e-9, atol=0.0)


def test_polar_in_bfloat16_stays_near_the_one_in_float32():
    x = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    difference = polar(x, dtype=torch.bfloat16) - polar(x)
    assert 1e-4 < difference.norm() / polar(x).norm() < 5e-2


# --- modes ------------------------------------------------------------------------------------------------------


@quick
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), skip=st.integers(-1, 3), transpose=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_mode_products_equal_dense_contractions(shape, skip, transpose, seed):
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    matrices = [
        None if mode == skip else torch.randn(2, n, n, generator=generator, dtype=torch.float64)
        for mode, n in enumerate(shape)
    ]
    expected = v.numpy().copy()
    for mode, matrix in enumerate(matrices):
        if matrix is not None:
            for b in range(2):
                m = matrix[b].numpy().T if transpose else matrix[b].numpy()
                expected[b] = np.moveaxis(np.tensordot(m, expected[b], axes=(1, mode)), 0, mode)
    assert np.allclose(mode_products(v, matrices, transpose=transpose).numpy(), expected, atol=1e-12)


@quick
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), mode=st.integers(0, 3), seed=st.integers(0, 99))
def test_gram_matrices_equal_dense_unfoldings(shape, mode, seed):
    mode = min(mode, len(shape) - 1)
    v = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    factor = torch.ones(2, shape[mode], shape[mode]).double()
    add_gram(factor, v, mode, beta=0.5, alpha=2.0)
    for b in range(2):
        unfolded = np.moveaxis(v[b].numpy(), mode, 0).reshape(shape[mode], -1)
        assert np.allclose(factor[b].numpy(), 0.5 + 2.0 * unfolded @ unfolded.T)


def test_debias_is_exact_in_float32():
    steps = torch.tensor([0, 1, 1000])
    weight = debias(0.999, steps, torch.zeros(3, 2, 2))
    assert weight.shape == (3, 1, 1)
    exact = torch.tensor([1 - 0.999, 1 - 0.999, 1 - 0.999**1000], dtype=torch.float64).float()
    assert torch.equal(weight.flatten(), exact)


@pytest.mark.parametrize(("turn", "matrices"), [("power_qr", 5), ("qr_turn", 7)])
def test_a_large_turn_holds_few_matrices_at_a_time(turn, matrices):
    n = 768
    gradients = torch.randn(1, n, 2 * n, generator=torch.Generator().manual_seed(0))
    a, basis = gradients @ gradients.mT, torch.eye(n)[None]
    step = {"power_qr": lambda: power_qr(a, basis), "qr_turn": lambda: qr_turn(a)}[turn]
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert max(np.cumsum(sizes)) <= matrices * a.nbytes
