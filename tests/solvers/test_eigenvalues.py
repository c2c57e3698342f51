"""``precond.eigsh`` against dense decompositions and exact spectra: certified, or said not to be."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import BadInputError, IncompatibleError, UnknownNameError
from precond.operators import FunctionOperator
from tests.papers.linear_toys import poisson

SIDE = 25
A = poisson(SIDE)
line = 2 - 2 * np.cos(np.pi * np.arange(1, SIDE + 1) / (SIDE + 1))
EXACT = np.sort(np.add.outer(line, line), axis=None) * (A.diagonal()[0] / 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("preconditioner", ["auto", "jacobi", "amg", "identity"])
def test_finds_the_smallest(preconditioner, kind):
    a, tol = A.astype(kind), 1e-4 if kind is np.float32 else 1e-8
    if kind is np.complex128:
        unitary = scipy.sparse.diags_array(np.exp(1j * np.arange(SIDE**2)))
        a = unitary @ a @ unitary.conj()
    result = precond.eigsh(a, 5, preconditioner=preconditioner, tol=tol)
    assert result.converged, result.message
    np.testing.assert_allclose(result.values, EXACT[:5], rtol=tol)
    assert result.values.dtype == np.zeros(1, kind).real.dtype
    assert result.x.dtype == kind
    assert result.iterations == result.work.matvecs // 5
    residuals = np.linalg.norm(a @ result.x - result.x * result.values, axis=0)
    assert (residuals <= 2 * tol * np.abs(result.values)).all()
    np.testing.assert_allclose(result.x.conj().T @ result.x, np.eye(5), atol=1e-5)
    named = preconditioner not in ("auto", "identity")
    assert not named or preconditioner in result.method or "Lanczos" in result.method


@pytest.mark.parametrize(("which", "want"), [("LA", EXACT[-3:]), ("LM", EXACT[-3:])])
def test_finds_the_largest(which, want):
    for a in (A, torch.from_numpy(A.toarray()), scipy.sparse.linalg.aslinearoperator(A)):
        result = precond.eigsh(a, 3, which=which)
        assert result.converged, result.message
        np.testing.assert_allclose(result.values, want, rtol=1e-10)
        assert isinstance(result.x, torch.Tensor) == isinstance(a, torch.Tensor)


def test_indefinite_singular_and_small_matrices():
    shifted = scipy.sparse.csr_array(A - 3 * EXACT[0] * scipy.sparse.eye_array(SIDE**2))
    np.testing.assert_allclose(precond.eigsh(shifted, 3).values, EXACT[:3] - 3 * EXACT[0], rtol=1e-8)
    laplacian = scipy.sparse.csgraph.laplacian(-(A - scipy.sparse.diags_array(A.diagonal())))
    result = precond.eigsh(laplacian, 2)
    assert result.converged, result.message
    assert abs(result.values[0]) < 1e-12 < result.values[1]
    np.testing.assert_array_equal(precond.eigsh(np.diag([3.0, -5.0, 1.0]), 2, which="LM").values, [-5, 3])
    for zero in (np.zeros((3, 3)), scipy.sparse.csr_array((600, 600))):
        nothing = precond.eigsh(zero, 3)
        assert nothing.converged
        np.testing.assert_array_equal(nothing.values, np.zeros(3))


def test_a_residual_at_rounding_is_good_enough_and_no_larger_one():
    laplacian = scipy.sparse.csgraph.laplacian(-(A - scipy.sparse.diags_array(A.diagonal())))
    result = precond.eigsh(laplacian, 1, tol=1e-10)
    assert result.converged  # though no residual is small beside an eigenvalue of zero
    left = np.linalg.norm(laplacian @ result.x - result.x * result.values)
    assert 0 < left <= 10 * np.finfo(float).eps * abs(laplacian).sum(axis=1).max()


def test_fewer_pairs_than_asked_for_are_not_all(monkeypatch):
    monkeypatch.setattr("precond.eigenvalues._last", 0)
    """ARPACK may give the pairs that it has: exact ones are certified, and do not make a result of more."""

    def some(a, k, **options):
        pairs = np.linalg.eigh(A.toarray())
        raise scipy.sparse.linalg.ArpackNoConvergence("", pairs[0][:2], pairs[1][:, :2])

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", some)
    result = precond.eigsh(A, 3, preconditioner="identity")
    assert len(result.values) == 2
    assert result.certificate.holds
    assert not result.converged


def test_what_is_not_reached_is_not_called_converged():
    result = precond.eigsh(A, 5, preconditioner="identity", tol=1e-10, max_iterations=1)
    assert not result.converged
    assert not result.certificate.holds or len(result.values) < 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (dict(k=0), BadInputError),
        (dict(k=2.0), BadInputError),
        (dict(which="SM"), BadInputError),
        (dict(tol=0.0), BadInputError),
        (dict(max_iterations=0), BadInputError),
        (dict(preconditioner="ilu0"), IncompatibleError),
        (dict(preconditioner="jacoby"), UnknownNameError),
        (dict(which="LA", preconditioner="ic0"), IncompatibleError),
        (dict(A=A[:5]), IncompatibleError),
        (dict(A=np.triu(np.ones((4, 4)))), IncompatibleError),
        (dict(A=scipy.sparse.linalg.aslinearoperator(np.triu(np.ones((600, 600))))), BadInputError),
    ],
)
def test_bad_input_is_refused(arguments, error):
    with pytest.raises(error):
        precond.eigsh(**{"A": A, "k": 3, **arguments})


@pytest.mark.parametrize("kind", ["sparse", "dense", "products", "small", "single"])
@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-500, 2.0**700, 2.0**990])
def test_the_unit_of_the_matrix_does_not_matter(scale, kind):
    a, dtype, tol = scipy.sparse.csr_array(A), np.float64, 1e-8
    if kind == "small":
        a = a[:30, :30]
    if kind == "single":
        dtype, tol, scale = np.float32, 1e-4, 2.0 ** (np.log2(scale) / 10)
    a = a.astype(dtype)
    scaled = scipy.sparse.csr_array(a * dtype(scale))
    wrap = {"dense": lambda m: m.toarray(), "products": scipy.sparse.linalg.aslinearoperator}.get(kind, lambda m: m)
    for which in ("SA", "LA"):
        plain = precond.eigsh(wrap(a), 3, which=which, tol=tol)
        result = precond.eigsh(wrap(scaled), 3, which=which, tol=tol)
        assert plain.converged
        assert result.converged, result.message
        np.testing.assert_allclose(result.values / dtype(scale), plain.values, rtol=tol)


def test_a_wrong_adjoint_or_symmetry_is_found_in_any_unit():
    a = np.triu(np.ones((30, 30))) + 30 * np.eye(30)
    for scale in (1e-250, 1.0, 1e250):
        matrix = torch.from_numpy(a * scale)
        for wrong in ({"symmetric": True}, {"rmatvec": lambda x, m=matrix: x @ m.T}):
            operator = FunctionOperator(lambda x, m=matrix: x @ m.T, (30, 30), **wrong)
            with pytest.raises(BadInputError, match="differ"):
                precond.eigsh(operator, 2) if "symmetric" in wrong else precond.lstsq(operator, np.ones(30))


def test_zero_that_is_multiple_is_found_as_often_as_it_is_there():
    """Unconnected nodes of a graph: ARPACK alone finds one of the zeros, and goes on with 0.4."""
    draw = np.random.default_rng(0)
    ends = draw.integers(0, 1500, (4000, 2))
    edges = scipy.sparse.coo_array((np.ones(4000), (ends[:, 0], ends[:, 1])), shape=(1500, 1500))
    weights = scipy.sparse.csr_array(edges + edges.T)
    laplacian = scipy.sparse.csr_array(scipy.sparse.diags_array(weights.sum(axis=1)) - weights)
    expected = np.linalg.eigvalsh(laplacian.toarray())[:6]
    result = precond.eigsh(laplacian, 6, preconditioner="identity")
    assert result.converged
    np.testing.assert_allclose(result.values, expected, atol=1e-9)


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-300, 1e306])
@pytest.mark.parametrize("which", ["SA", "LA"])
def test_entries_whose_squares_are_no_numbers(size, which):
    grid = poisson(30)
    expected = np.linalg.eigvalsh(grid.toarray())
    for matrix in (grid * size, grid.toarray() * size):
        result = precond.eigsh(matrix, 3, which=which)
        assert result.converged
        np.testing.assert_allclose(result.values / size, expected[:3] if which == "SA" else expected[-3:], rtol=1e-7)


def test_what_no_iteration_finds_is_decomposed(monkeypatch):
    monkeypatch.setattr("precond.eigenvalues._small", 50)
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((80, 80)))[0]
    matrix = basis * np.logspace(-12, 3, 80) @ basis.T
    result = precond.eigsh((matrix + matrix.T) / 2, 3)
    assert result.converged
    assert result.method.endswith("decomposition")
