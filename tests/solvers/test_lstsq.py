"""``precond.lstsq`` as its users call it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status, UnknownNameError
from precond.krylov import CG
from precond.operators import FunctionOperator

rng = np.random.default_rng(9)
A = rng.standard_normal((40, 8)) * np.geomspace(1, 100, 8)
B = rng.standard_normal((40, 2))
exact = np.linalg.lstsq(A, B, rcond=None)[0]


def adjoint_pair(a, adjoint=None):
    t, back = torch.from_numpy(a), torch.from_numpy(a if adjoint is None else adjoint)
    return FunctionOperator(lambda x: x @ t.T, a.shape, rmatvec=lambda y: y @ back)


FORMS = {
    "numpy": A,
    "torch": torch.from_numpy(A),
    "torch csr": torch.from_numpy(A).to_sparse_csr(),
    "scipy": scipy.sparse.csc_array(A),
    "linear operator": scipy.sparse.linalg.aslinearoperator(A),
    "products": adjoint_pair(A),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("b", [B, B[:, 0], torch.from_numpy(B)], ids="nvt")
def test_takes_any_form_and_gives_the_solution_back_in_that_of_b(name, b):
    result = precond.lstsq(FORMS[name], b, rtol=1e-12)
    assert result.status is Status.CONVERGED_NORMAL, result.message
    assert isinstance(result.x, torch.Tensor if isinstance(b, torch.Tensor) else np.ndarray)
    assert tuple(result.x.shape) == (8, *np.shape(b)[1:])
    want = exact[:, 0] if len(np.shape(b)) == 1 else exact
    np.testing.assert_allclose(np.asarray(result.x), want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "ssor", "ic0"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-10), (np.complex128, 1e-10)])
def test_every_preconditioner_keeps_the_promise(preconditioner, dtype, rtol):
    result = precond.lstsq(A.astype(dtype), B.astype(dtype), preconditioner=preconditioner, rtol=rtol)
    assert result.converged, result.message
    assert result.x.dtype == dtype
    a, b = (m.astype(dtype).astype(np.complex128) for m in (A, B))
    r = b - a @ result.x
    normal = np.linalg.norm(a.T @ r, axis=0) / (np.linalg.norm(a) * np.linalg.norm(r, axis=0))
    assert normal.max() <= rtol
    assert result.certificate.value == pytest.approx(normal.max(), rel=0.05)


def test_columns_scaled_by_jacobi_need_fewer_iterations():
    counts = {p: precond.lstsq(A, B, preconditioner=p).iterations for p in ("jacobi", "identity")}
    assert counts["jacobi"] < counts["identity"]


def test_a_consistent_system_is_certified_by_its_residual():
    result = precond.lstsq(A, A @ np.ones(8), rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, np.ones(8), rtol=1e-6)
    assert result.certificate.extra["relative residual"] <= 1e-10


def test_an_underdetermined_system_gets_the_solution_of_least_norm():
    wide, b = A.T / np.geomspace(1, 100, 8)[:, None], rng.standard_normal(8)
    result = precond.lstsq(wide, b, preconditioner="identity", rtol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.pinv(wide) @ b, rtol=1e-8, atol=1e-10)


def test_zero_right_hand_sides_and_exact_guesses_need_no_iteration():
    result = precond.lstsq(A, np.zeros(40))
    assert (result.converged, result.iterations) == (True, 0)
    assert not result.x.any()
    again = precond.lstsq(A, B, x0=exact)
    assert (again.converged, again.iterations) == (True, 0)


def test_a_zero_column_is_harmless():
    a = A.copy()
    a[:, 3] = 0
    result = precond.lstsq(a, B, rtol=1e-10)
    assert result.converged
    assert (result.x[3] == 0).all()


def test_stops_and_calls_back():
    events = []
    result = precond.lstsq(A, B, method="lsqr", max_iterations=2, callback=events.append)
    assert (result.status, result.iterations) == (Status.STOPPED_STEPS, 2)
    assert [e.iteration for e in events] == [0, 1, 2]
    assert precond.lstsq(A, B, method="lsqr", callback=lambda e: e.iteration == 1).status is Status.STOPPED_USER


def test_counts_every_product():
    calls = []
    t = torch.from_numpy(A)
    operator = FunctionOperator(
        lambda x: (calls.append(len(x)), x @ t.T)[1], A.shape, rmatvec=lambda y: (calls.append(len(y)), y @ t)[1]
    )
    result = precond.lstsq(operator, B)
    assert result.work.matvecs == sum(calls)


BAD = {
    "no adjoint": (dict(A=FunctionOperator(lambda x: x, (3, 3)), b=np.ones(3)), "rmatvec"),
    "wrong adjoint": (dict(A=adjoint_pair(A, A + 0.1), b=np.ones(40)), "not the adjoint"),
    "rows": (dict(A=A, b=np.ones(8)), "40 rows"),
    "x0": (dict(A=A, b=np.ones(40), x0=np.ones(40)), "length 8"),
    "nan": (dict(A=A, b=np.full(40, np.nan)), "not finite"),
    "square method": (dict(A=A, b=np.ones(40), method=CG()), "precond.solve"),
    "unknown": (dict(A=A, b=np.ones(40), method="lsqrr"), "nearest known: lsqr"),
    "entries": (dict(A=adjoint_pair(A), b=np.ones(40), preconditioner="ic0"), "entries"),
    "empty": (dict(A=np.zeros((0, 2)), b=[]), "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_remedy(name):
    arguments, message = BAD[name]
    with pytest.raises((BadInputError, IncompatibleError, UnknownNameError), match=message):
        precond.lstsq(**arguments)


@pytest.mark.parametrize("sparse", [False, True])
def test_wide_problems_get_the_solution_of_least_norm(sparse):
    draw = np.random.default_rng(4)
    a = draw.standard_normal((20, 90)) * np.geomspace(1, 30, 90)  # columns that a scaling would make equal
    a = np.where(draw.random(a.shape) < 0.3, a, 0) if sparse else a
    b = draw.standard_normal(20)
    result = precond.lstsq(scipy.sparse.csr_array(a) if sparse else a, b, rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_wide_sparse_problems_that_lsqr_does_not_solve_get_the_solution_of_least_norm(dtype):
    draw = np.random.default_rng(5)
    even = np.where(draw.random((130, 300)) < 0.05, draw.standard_normal((130, 300)), 0).astype(dtype)
    if dtype is np.complex128:
        even = even * np.exp(1j * draw.random(even.shape))
    b, sizes = even @ draw.standard_normal(300), np.geomspace(1e-4, 1e4, 130)
    result = precond.lstsq(scipy.sparse.csr_array(even * sizes[:, None]), b * sizes, rtol=1e-10)
    assert result.converged
    assert result.method.startswith("lsqr + qr (lsqr + identity did not converge")
    np.testing.assert_allclose(result.x, np.linalg.pinv(even) @ b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
@pytest.mark.parametrize("columns", [(), (5,)])
def test_small_sparse_problems_of_deficient_rank_are_factored_and_have_least_norm(shape, columns):
    draw = np.random.default_rng(6)
    m, n = shape
    left, right = (np.where(draw.random(s) < 0.3, draw.standard_normal(s), 0) for s in ((m, 20), (20, n)))
    a = (left @ right) * np.geomspace(1, 30, n)
    b = draw.standard_normal((m, *columns))
    result = precond.lstsq(scipy.sparse.csr_array(a), b, rtol=1e-10)
    assert result.converged
    assert result.method.startswith("lsqr + qr")
    np.testing.assert_allclose(result.x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-6, atol=1e-9)


def test_tall_sparse_problems_of_deficient_rank_get_the_solution_of_least_norm():
    """By the norms of the columns, which were scaled, it was another one, three times as long."""
    left, right = (scipy.sparse.random_array(shape, density=0.2, rng=rng) for shape in ((1200, 30), (30, 220)))
    a = scipy.sparse.csr_array(left @ right)
    b = rng.standard_normal(1200)
    result = precond.lstsq(a, b)
    assert result.converged
    assert result.method.startswith("lsqr + identity")
    expected = np.linalg.lstsq(a.toarray(), b, rcond=None)[0]
    np.testing.assert_allclose(result.x, expected, atol=1e-6 * np.linalg.norm(expected))
