"""Sketches embed subspaces, and the kernels behind them agree with plain products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.math.dense import tall
from precond.math.dense.tall import normal_products, scatter_rows
from precond.math.hadamard import hadamard_matrix, hadamard_transform
from precond.operators import FunctionOperator, as_operator
from precond.sketches import SRHT, CountSketch, Gaussian, SparseSign

F64 = torch.float64
N, SIZE, ROWS = 12, 240, 2000


def distortion(sketch, basis, seed):
    """Return the largest deviation from one of a singular value of ``S U``."""
    values = torch.linalg.svdvals(sketch.draw(len(basis), SIZE, seed=seed).apply(basis))
    return float((values - 1).abs().max())


def incoherent():
    return torch.linalg.qr(torch.randn(ROWS, N, generator=torch.Generator().manual_seed(0), dtype=F64)).Q


def coherent():
    """A subspace along coordinates, where sketches that look at few rows fail."""
    return torch.eye(ROWS, N, dtype=F64)


@pytest.mark.parametrize("sketch", [Gaussian(), SRHT(), SparseSign(8), SparseSign(4)], ids=repr)
@pytest.mark.parametrize("basis", [incoherent(), coherent()], ids=["incoherent", "coherent"])
def test_embeds_a_subspace(sketch, basis):
    """The deviation is near ``sqrt(n / size)``, here 0.22."""
    worst = max(distortion(sketch, basis, seed) for seed in range(5))
    assert 0.05 < worst < 2 * (N / SIZE) ** 0.5


def test_a_countsketch_embeds_most_subspaces_but_not_those_along_coordinates():
    assert max(distortion(CountSketch(), incoherent(), seed) for seed in range(5)) < 2 * (N / SIZE) ** 0.5
    lost = [distortion(CountSketch(), coherent(), seed) for seed in range(40)]
    assert max(lost) == pytest.approx(1)  # two coordinates met in one row: a direction is lost
    assert min(lost) == 0  # or all are kept as they are


def test_the_hadamard_transform_is_the_matrix_of_kronecker_products():
    h = np.ones((1, 1))
    for _ in range(7):
        h = np.kron([[1, 1], [1, -1]], h)
    x = torch.randn(2, 128, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    torch.testing.assert_close(hadamard_transform(x), torch.from_numpy(h) @ x)
    assert torch.equal(hadamard_matrix(128, x), torch.from_numpy(h))
    with pytest.raises(ValueError, match="power of two"):
        hadamard_transform(x[:, :100])


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.complex128])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_normal_products_are_the_plain_ones(dtype, layout, batch, threads, monkeypatch):
    monkeypatch.setattr(tall, "_large", 100)
    monkeypatch.setattr(tall, "_block", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(1203, 7, generator=generator, dtype=dtype)
    a = a if layout == "rows" else a.T.contiguous().T
    x, b = (
        torch.randn(batch, 7, generator=generator, dtype=dtype),
        torch.randn(batch, 1203, generator=generator, dtype=dtype),
    )
    for rhs, y in ((None, x @ a.mT), (b, b - x @ a.mT)):
        product, size = normal_products(a, x, rhs)
        torch.testing.assert_close(product, y @ a.conj(), rtol=2e-4 if dtype == torch.float32 else 1e-11, atol=1e-4)
        torch.testing.assert_close(size, torch.linalg.vector_norm(y, dim=-1))


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_scattered_alike_by_kernels_and_by_torch(layout, threads, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(900, 5, generator=generator, dtype=F64)
    a = a if layout == "rows" else a.T.contiguous().T
    places = torch.randint(0, 11, (900, 2), generator=generator).int()
    signs = torch.randn(900, 2, generator=generator, dtype=F64)
    plain = scatter_rows(a, places, signs, 11)
    monkeypatch.setattr(tall, "_large", 100)
    monkeypatch.setattr(tall, "_block", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.testing.assert_close(scatter_rows(a, places, signs, 11), plain)


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.complex128])
def test_every_operator_knows_the_norms_of_its_columns(dtype, monkeypatch):
    monkeypatch.setattr(tall, "_large", 100)
    a = torch.randn(300, 9, generator=torch.Generator().manual_seed(4), dtype=dtype)
    want = torch.linalg.vector_norm(a, dim=0)
    for operator in (as_operator(a), as_operator(a.to_sparse_csr()), as_operator(a.T.contiguous().T)):
        torch.testing.assert_close(operator.column_norms().to(want.dtype), want)
    assert FunctionOperator(lambda x: x @ a.mT, a.shape).column_norms() is None


def test_every_operator_sketches_itself():
    a = torch.randn(300, 90, generator=torch.Generator().manual_seed(4), dtype=F64)
    embedding = SparseSign(4).draw(300, 100)
    want = embedding.apply(a)
    by_products = FunctionOperator(lambda x: x @ a.T, a.shape, rmatvec=lambda y: y @ a)
    for operator in (as_operator(a), as_operator(a.to_sparse_csr()), by_products):
        torch.testing.assert_close(operator.sketched(embedding), want)
    dense = SRHT().draw(300, 100)
    torch.testing.assert_close(as_operator(a.to_sparse_csr()).sketched(dense), dense.apply(a))


def test_bad_input_is_refused():
    with pytest.raises(BadInputError, match="at least one entry"):
        SparseSign(0).draw(5, 3)


def test_any_row_of_the_padded_transform_may_be_drawn():
    assert SRHT().draw(5, 400).sample.unique().tolist() == list(range(8))
