"""``precond.solve`` as its users call it: forms, bad input, statuses and certificates."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import BadInputError, IncompatibleError, NoState, Preconditioner, Status, Traits, UnknownNameError
from precond.krylov import CG, GCRODR, GMRES, IDR, Chebyshev
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.inverse_of import InverseOf
from precond.preconditioners.jacobi import Jacobi
from tests.papers.linear_toys import poisson, symmetric

rng = np.random.default_rng(8)
A = poisson(6)
dense = A.toarray()
exact = rng.standard_normal((36, 3))
B = dense @ exact
FORMS = {
    "numpy": dense,
    "list": dense.tolist(),
    "torch": torch.from_numpy(dense),
    "torch csr": torch.from_numpy(dense).to_sparse_csr(),
    "torch coo": torch.from_numpy(dense).to_sparse_coo(),
    "torch csc": torch.from_numpy(dense).to_sparse_csc(),
    "scipy csr": A,
    "scipy coo": A.tocoo(),
    "scipy matrix": scipy.sparse.csc_matrix(dense),
    "linear operator": scipy.sparse.linalg.aslinearoperator(A),
    "operator": as_operator(A),
    "products": FunctionOperator(lambda x: x @ torch.from_numpy(dense), (36, 36), symmetric=True),
    "integers": A.astype(np.int64),
}


def residual(a, b, x):
    r = b - a @ x
    return np.max(np.linalg.norm(r.reshape(len(r), -1), axis=0) / np.linalg.norm(b.reshape(len(b), -1), axis=0))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("b", [B[:, 0], B, B[:, :1], torch.from_numpy(B), B[:, 0].tolist()], ids="vncts")
def test_takes_any_form_and_gives_the_solution_back_in_that_of_b(name, b):
    result = precond.solve(FORMS[name], b)
    assert result.converged
    assert isinstance(result.x, torch.Tensor if isinstance(b, torch.Tensor) else np.ndarray)
    assert tuple(result.x.shape) == np.shape(b)
    want = exact.reshape(36, -1)[:, : 1 if len(np.shape(b)) == 1 or np.shape(b)[1] == 1 else 3]
    np.testing.assert_allclose(np.asarray(result.x).reshape(36, -1), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "fgmres", "bicgstab"])
@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "block-jacobi", "ssor", "ic0"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-11), (np.complex128, 1e-10)])
def test_every_pair_keeps_its_promise(method, preconditioner, dtype, rtol):
    result = precond.solve(
        A.astype(dtype), B.astype(dtype), method=method, preconditioner=preconditioner, rtol=rtol, atol=0.0
    )
    assert result.converged, result.message
    assert result.x.dtype == dtype
    assert residual(dense, B, result.x.astype(np.complex128)) <= rtol
    assert result.certificate.value == pytest.approx(residual(dense, B, result.x.astype(np.complex128)), rel=1e-2)


@pytest.mark.parametrize("method", ["gmres", "fgmres", "bicgstab"])
@pytest.mark.parametrize("preconditioner", ["ilu0", "ilut"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-11), (np.complex128, 1e-10)])
def test_every_nonsymmetric_pair_keeps_its_promise(method, preconditioner, dtype, rtol):
    skewed = (A + 0.7 * scipy.sparse.diags_array([np.ones(35)], offsets=[1])).astype(dtype)
    result = precond.solve(skewed, B.astype(dtype), method=method, preconditioner=preconditioner, rtol=rtol)
    assert result.converged, result.message
    assert residual(skewed, B, result.x.astype(np.complex128)) <= rtol


def test_counts_its_work():
    calls = []
    operator = FunctionOperator(lambda x: (calls.append(len(x)), x @ torch.from_numpy(dense))[1], (36, 36))
    result = precond.solve(operator, B, method="cg", preconditioner="identity")
    assert result.work.matvecs == sum(calls)
    assert result.work.applies == 3 * result.iterations
    assert result.work.refreshes == 0
    assert len(result.history) == result.iterations + 1
    assert {"setup", "iterate"} <= result.work.seconds.keys()
    assert precond.solve(A, B, preconditioner="ic0").work.refreshes == 1


def test_certifies_the_backward_error():
    result = precond.solve(A, B[:, 0])
    r = np.linalg.norm(B[:, 0] - A @ result.x)
    want = r / (np.linalg.norm(dense) * np.linalg.norm(result.x) + np.linalg.norm(B[:, 0]))
    assert result.certificate.extra["backward error"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "method", "preconditioner"),
    [
        (A, "cg", "ic0"),
        (A - scipy.sparse.eye_array(36) * 4.5, "gmres", "lu"),
        (A - scipy.sparse.eye_array(36), "gmres", "lu"),
        (A + scipy.sparse.diags_array([np.ones(35)], offsets=[1]), "bicgstab", "ilu0"),
        (np.triu(np.ones((36, 36))) + dense, "richardson", "lu"),
        (dense, "richardson", "lu"),
        (dense - 4.5 * np.eye(36), "richardson", "lu"),
        (scipy.sparse.linalg.aslinearoperator(A), "gmres", "identity"),
        (as_operator(scipy.sparse.linalg.aslinearoperator(A), symmetric=True), "cg", "identity"),
    ],
)
def test_chooses_by_traits_and_says_why(a, method, preconditioner):
    result = precond.solve(a, B[:, 0], max_iterations=500)
    assert result.method.startswith(f"{method} + {preconditioner} ("), result.method
    assert result.converged, result.message


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.complex128, np.complex64])
@pytest.mark.parametrize("n", [5, 130])
def test_dense_matrices_are_solved_by_complete_factors(kind, n):
    x = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if np.dtype(kind).kind == "c" else 0)
    tolerance = 1e-4 if np.finfo(kind).eps > 1e-10 else 1e-10
    for a in (x + n * np.eye(n), x @ x.conj().T + n * np.eye(n), x + x.conj().T + 0.1 * np.eye(n)):
        a = a.astype(kind)
        for columns in ((n,), (n, 3)):
            b = rng.standard_normal(columns).astype(kind)
            result = precond.solve(a, b, rtol=tolerance)
            assert result.converged, result.message
            assert "lu" in result.method
            assert result.iterations < 10
            assert (np.linalg.norm(b - a @ result.x, axis=0) <= 1.1 * tolerance * np.linalg.norm(b, axis=0)).all()


def test_dense_matrices_beyond_single_precision_and_singular_ones():
    q = np.linalg.qr(rng.standard_normal((150, 150)))[0]
    hard = (q * np.geomspace(1, 1e-11, 150)) @ q[::-1]
    result = precond.solve(hard, hard @ np.ones(150), rtol=1e-12)
    assert result.converged
    assert (result.iterations, result.method) == (1, "gmres + lu (dense, not symmetric, with entries)")
    singular = q[:, :140] @ q[::-1][:140]
    assert precond.solve(singular, singular @ np.ones(150)).converged
    assert precond.solve(singular, np.ones(150)).status is Status.FAILED_INCONSISTENT


def banded(n, diagonal):
    return scipy.sparse.diags_array([-np.ones(n - 1), np.full(n, diagonal), -np.ones(n - 1)], offsets=[-1, 0, 1])


@pytest.mark.parametrize("n", [500, 20_000])
def test_factors_that_are_complete_on_the_pattern_come_before_multigrid_and_minres(n):
    x = rng.standard_normal(n)
    for diagonal, used in ((2.0, "cg + ic0"), (0.7, "bicgstab + ilu0"), (-0.7, "bicgstab + ilu0")):
        a = banded(n, diagonal).tocsr()
        result = precond.solve(a, a @ x)
        assert result.converged
        assert result.method.startswith(used)
        assert result.iterations <= 2


def test_complete_factors_of_a_small_profile_come_before_many_iterations():
    order = rng.permutation(4000)
    a = banded(4000, 0.7).tocsr() - 1.4 * scipy.sparse.eye_array(4000)
    a = a.tocsr()[order][:, order]
    result = precond.solve(a, a @ np.ones(4000))
    assert result.converged
    assert "gmres + lu" in result.method


def test_factors_with_pivots_come_first_where_the_diagonal_has_many_zeros():
    a = banded(3000, 0.7).tocsr()[rng.permutation(3000)]
    result = precond.solve(a, a @ np.ones(3000))
    assert result.converged
    assert result.method.startswith("gmres + lu (not symmetric")


def test_large_dense_matrices_that_products_solve_are_not_factored():
    n = 3500
    a = np.eye(n) + 0.3 / n * rng.standard_normal((n, 1)) * rng.standard_normal(n)
    result = precond.solve(a, np.ones(n))
    assert result.converged
    assert result.method.startswith("gmres + jacobi (dense")
    named = precond.solve(a[:50, :50], np.ones(50), method="gmres")
    assert named.method.startswith("gmres + lu")


def test_tries_the_next_when_the_first_does_not_converge():
    singular_on_the_way = np.diag(np.logspace(0, -13, 30))[::-1] + 1e-9 * rng.standard_normal((30, 30))
    result = precond.solve(singular_on_the_way, singular_on_the_way @ np.ones(30))
    assert result.converged
    kkt = np.block([[dense, np.eye(36)[:, :9]], [np.eye(36)[:9], np.zeros((9, 9))]]) * np.logspace(0, 6, 45)
    result = precond.solve(kkt @ kkt.T, np.ones(45), rtol=1e-6, preconditioner="jacobi", max_iterations=3)
    assert (result.status, result.iterations) == (Status.STOPPED_STEPS, 3)


def test_a_preconditioner_that_is_not_symmetric_gets_a_method_that_can_use_it():
    for name in ("ilu0", "ilut"):
        result = precond.solve(A, B[:, 0], preconditioner=name)
        assert result.method.startswith(f"gmres + {name}")
        assert result.converged


def test_parts_may_be_objects():
    result = precond.solve(A, B, method=GMRES(restart=5), preconditioner=IC0(first_shift=0.1))
    assert result.method == "GMRES + IC0"
    assert result.converged


def test_a_zero_right_hand_side_has_the_zero_solution():
    for x0 in (None, np.ones(36)):
        result = precond.solve(A, np.zeros(36), x0=x0)
        assert result.status is Status.CONVERGED_RESIDUAL
        assert (result.iterations, result.certificate.value) == (0, 0.0)
        assert not result.x.any()


def test_an_exact_initial_guess_needs_no_iteration():
    b = np.arange(1.0, 5.0)
    for method in ("cg", "minres", "gmres"):
        result = precond.solve(np.diag([1.0, 2.0, 4.0, 8.0]), b, x0=b / [1, 2, 4, 8], method=method)
        assert result.converged
        assert result.iterations == 0


def test_the_one_by_one_system():
    assert precond.solve([[4.0]], [2.0]).x == pytest.approx([0.5])
    assert precond.solve([[-4]], [2]).x == pytest.approx([-0.5])


def test_an_absolute_tolerance_counts_where_it_is_larger():
    result = precond.solve(A, B[:, 0], rtol=0.0, atol=1e-3)
    assert result.converged
    assert np.linalg.norm(B[:, 0] - A @ result.x) <= 1e-3
    assert result.certificate.bound == pytest.approx(1e-3 / np.linalg.norm(B[:, 0]))


def test_stops_at_the_limit_and_says_so():
    result = precond.solve(A, B, method="cg", preconditioner="identity", max_iterations=3)
    assert (result.status, result.iterations) == (Status.STOPPED_STEPS, 3)
    assert result.certificate.value == pytest.approx(residual(dense, B, result.x))
    assert "max_iterations" in result.message
    assert precond.solve(A, B, max_iterations=0).status is Status.STOPPED_STEPS


def test_restarted_gmres_on_a_cyclic_shift_does_not_claim():
    a, b = np.roll(np.eye(40), 1, axis=0), np.eye(40)[0]
    result = precond.solve(a, b, method=GMRES(restart=8), preconditioner="identity", max_iterations=60)
    assert result.status is Status.STOPPED_STEPS
    assert result.certificate.value == pytest.approx(1.0)


def test_a_callback_sees_every_iteration_and_can_stop():
    events = []
    result = precond.solve(A, B, method="cg", callback=lambda e: events.append((e.iteration, e.residual, e.solution())))
    assert [e[0] for e in events] == list(range(result.iterations + 1))
    assert [e[1] for e in events] == result.history
    assert events[-1][2].shape == (36, 3)
    np.testing.assert_array_equal(events[-1][2], result.x)
    stopped = precond.solve(A, B, method="cg", callback=lambda e: e.iteration == 2)
    assert (stopped.status, stopped.iterations) == (Status.STOPPED_USER, 2)


def test_an_interrupt_returns_the_point_so_far():
    def interrupt(event):
        if event.iteration == 4:
            raise KeyboardInterrupt

    result = precond.solve(A, B, method="cg", preconditioner="identity", callback=interrupt)
    assert (result.status, result.iterations) == (Status.STOPPED_INTERRUPT, 4)
    reference = precond.solve(A, B, method="cg", preconditioner="identity", max_iterations=4)
    np.testing.assert_array_equal(result.x, reference.x)


def test_an_indefinite_matrix_fails_cg_and_the_remedy_works():
    a = symmetric(np.linspace(1, 5, 22))
    a[0, 1] = a[1, 0] = 10.0  # indefinite, behind a positive diagonal
    b = rng.standard_normal(22)
    result = precond.solve(a, b, method="cg", preconditioner="identity")
    assert result.status is Status.FAILED_INDEFINITE_OPERATOR
    assert "minres" in result.message
    assert precond.solve(a, b, method="minres", max_iterations=500).converged
    auto = precond.solve(scipy.sparse.csr_array(a), b, max_iterations=500)
    assert auto.converged
    assert "(cg + ic0 did not converge" in auto.method


def test_float32_that_cannot_go_further_says_so():
    result = precond.solve(A.astype(np.float32), B.astype(np.float32), rtol=1e-12)
    assert result.status is Status.FAILED_STAGNATION
    assert "float64" in result.message
    assert 1e-12 < result.certificate.value < 1e-5


def test_an_inconsistent_system_is_not_solved():
    a = np.diag([1.0, 2.0, 0.0])
    for method in ("minres", "gmres"):
        result = precond.solve(a, np.ones(3), method=method, preconditioner="identity")
        assert result.status.group == "failed"
        assert result.certificate.value == pytest.approx(1 / np.sqrt(3))
    assert precond.solve(a, np.array([1.0, 1.0, 0.0])).converged


@dataclasses.dataclass(frozen=True)
class Odd(Preconditioner[NoState]):
    """A map with given traits that multiplies by a factor."""

    claimed: Traits = Traits()
    factor: float = 1.0

    @property
    def traits(self):
        return self.claimed

    def init(self, like):
        return NoState()

    def apply(self, state, v, *, shift=0.0):
        return v * self.factor


def test_a_value_that_is_not_finite_fails_and_returns_the_better_point():
    for factor in (float("nan"), float("inf")):
        result = precond.solve(A, B, method="cg", preconditioner=Odd(factor=factor))
        assert result.status is Status.FAILED_NON_FINITE
        assert np.isfinite(result.x).all()
    result = precond.solve(A * 1e200, B * 1e200, method="cg", preconditioner="identity")
    assert result.converged or result.status is Status.FAILED_NON_FINITE


def test_a_preconditioner_that_lies_about_being_definite_is_found_out():
    for method in ("cg", "minres"):
        result = precond.solve(A, B, method=method, preconditioner=Odd(factor=-1.0))
        assert result.status is Status.FAILED_INDEFINITE_PRECONDITIONER


class Drifting(CG):
    """An iteration whose own residual drifts away from the true one, downwards."""

    def iterate(self, operator, b, precondition, x0):
        for k, progress in enumerate(super().iterate(operator, b, precondition, x0)):
            yield dataclasses.replace(progress, residual=progress.residual * 0.7**k)


def test_a_claim_is_checked_and_the_iteration_restarted():
    result = precond.solve(A, B, method=Drifting(), preconditioner="identity", rtol=1e-10)
    assert result.converged, result.message
    assert residual(dense, B, result.x) <= 1e-10


class Optimistic(CG):
    """An iteration whose own residual is always a little too small; it remembers how often it was started."""

    starts = 0

    def iterate(self, operator, b, precondition, x0):
        Optimistic.starts += 1
        for progress in super().iterate(operator, b, precondition, x0):
            yield dataclasses.replace(progress, residual=progress.residual * 0.8)


def test_a_claim_that_fails_by_little_does_not_restart():
    result = precond.solve(poisson(30), np.ones(900), method=Optimistic(), preconditioner="identity", rtol=1e-10)
    assert result.converged
    assert Optimistic.starts == 1


class Lying(CG):
    """An iteration that claims convergence at once, every time."""

    def iterate(self, operator, b, precondition, x0):
        for progress in super().iterate(operator, b, precondition, x0):
            yield dataclasses.replace(progress, residual=progress.residual * 0, solution=x0.clone)


def test_a_claim_that_never_holds_ends_as_stagnation():
    result = precond.solve(A, B, method=Lying(), preconditioner="identity")
    assert result.status is Status.FAILED_STAGNATION
    assert result.certificate.value == pytest.approx(1.0)


nan = float("nan")
upper = np.triu(np.ones((3, 3)))
products = FunctionOperator(lambda x: x, (3, 3))
BAD = {
    "empty": (dict(A=np.zeros((0, 0)), b=[]), "empty"),
    "empty matrix": (dict(A=np.zeros((0, 3)), b=np.ones(1)), "at least one row"),
    "one dimension": (dict(A=np.ones(3), b=np.ones(3)), "two dimensions"),
    "three dimensions": (dict(A=np.ones((2, 3, 3)), b=np.ones(4)), "give b"),
    "nan entry": (dict(A=[[1.0, 2.0], [nan, 1.0]], b=[1.0, 1.0]), r"A\[1, 0\] = nan"),
    "sparse nan": (dict(A=scipy.sparse.csr_array([[1.0, 0.0], [0.0, nan]]), b=[1.0, 1.0]), r"A\[1, 1\] = nan"),
    "nan in b": (dict(A=np.eye(2), b=[1.0, nan]), r"b\[1\] = nan"),
    "inf in b": (dict(A=np.eye(2), b=[[1.0], [float("inf")]]), r"b\[1, 0\] = inf"),
    "nan in x0": (dict(A=np.eye(2), b=[1.0, 1.0], x0=[nan, 0.0]), r"x0\[0\] = nan"),
    "length": (dict(A=np.eye(3), b=np.ones(2)), "3 rows"),
    "length of x0": (dict(A=np.eye(3), b=np.ones(3), x0=np.ones(2)), "length 3"),
    "columns of x0": (dict(A=np.eye(3), b=np.ones((3, 2)), x0=np.ones(3)), "asks for 2"),
    "scalar b": (dict(A=np.eye(3), b=1.0), r"columns \[n, k\]"),
    "cube b": (dict(A=np.eye(3), b=np.ones((3, 1, 1))), r"columns \[n, k\]"),
    "sparse b": (dict(A=np.eye(3), b=scipy.sparse.csr_array(np.ones((3, 1)))), "dense"),
    "text": (dict(A="matrix", b=np.ones(3)), "cannot read a matrix"),
    "ragged": (dict(A=[[1, 2], [3]], b=np.ones(2)), "cannot read A"),
    "long double, dense": (dict(A=np.eye(3, dtype=np.longdouble), b=np.ones(3)), r"A\.astype\(float\)"),
    "objects": (dict(A=np.eye(3), b=np.ones(3, object)), r"b\.astype\(float\)"),
    "masked": (dict(A=np.ma.masked_array(np.eye(3), mask=np.eye(3) > 0), b=np.ones(3)), "masked"),
    "digits": (dict(A=np.eye(3), b=["1", "2", "3"]), "array of numbers"),
    "tensors with gradients in a list": (dict(A=[torch.ones(2).requires_grad_()] * 2, b=np.ones(2)), "cannot read A"),
    "words": (dict(A=np.eye(2), b=["a", "b"]), "cannot read b"),
    "half": (dict(A=torch.eye(2, dtype=torch.float16), b=np.ones(2)), "float"),
    "negative rtol": (dict(A=np.eye(2), b=np.ones(2), rtol=-1.0), "rtol"),
    "nan rtol": (dict(A=np.eye(2), b=np.ones(2), rtol=nan), "rtol"),
    "tolerance of words": (dict(A=np.eye(2), b=np.ones(2), rtol="small"), "are numbers"),
    "callback": (dict(A=np.eye(2), b=np.ones(2), callback=3), "give a function"),
    "callback of a batch": (dict(A=np.eye(2)[None], b=np.ones((1, 2)), callback=3), "give a function"),
    "x0 of a batch": (dict(A=np.eye(2)[None], b=np.ones((1, 2)), x0=[[nan, 1.0]]), "x0 has an entry"),
    "array as preconditioner": (dict(A=np.eye(2)[None], b=np.ones((1, 2)), preconditioner=np.eye(2)), "give a name"),
    "long double": (dict(A=scipy.sparse.eye_array(2, dtype=np.longdouble), b=np.ones(2)), "astype"),
    "shape of a product": (dict(A=FunctionOperator(lambda x: x[:, :1], (2, 2)), b=np.ones(2)), "returned shape"),
    "type of a product": (dict(A=FunctionOperator(lambda x: x.numpy(), (2, 2)), b=np.ones(2)), "returned a ndarray"),
    "no tolerance": (dict(A=np.eye(2), b=np.ones(2), rtol=0.0), "both zero"),
    "limit": (dict(A=np.eye(2), b=np.ones(2), max_iterations=-1), "max_iterations"),
    "complex b": (dict(A=FunctionOperator(lambda x: x, (2, 2)), b=np.ones(2) * 1j), "complex"),
    "rectangular": (dict(A=np.ones((4, 3)), b=np.ones(4)), "lstsq"),
    "cg nonsymmetric": (dict(A=upper, b=np.ones(3), method="cg"), "gmres"),
    "minres nonsymmetric": (dict(A=upper, b=np.ones(3), method="minres"), "gmres"),
    "cg not definite": (dict(A=np.diag([1.0, -1.0]), b=np.ones(2), method="cg"), "minres"),
    "no entries": (dict(A=products, b=np.ones(3), preconditioner="ic0"), "entries"),
    "no diagonal": (dict(A=products, b=np.ones(3), preconditioner="jacobi"), "identity"),
    "ic0 nonsymmetric": (dict(A=upper, b=np.ones(3), preconditioner="ic0"), "ssor"),
    "nonlinear": (dict(A=np.eye(3), b=np.ones(3), preconditioner=Odd(Traits(linear=False))), "not a linear map"),
    "varying": (dict(A=np.eye(3), b=np.ones(3), preconditioner=Odd(Traits(fixed=False))), "changes between"),
    "not symmetric": (
        dict(A=np.eye(3), b=np.ones(3), method="cg", preconditioner=Odd(Traits(symmetric=False))),
        "gmres",
    ),
    "least squares": (dict(A=np.eye(3), b=np.ones(3), method="lsqr"), "unknown method 'lsqr'"),
    "unknown method": (dict(A=np.eye(3), b=np.ones(3), method="gmress"), "nearest known: gmres"),
    "unknown preconditioner": (dict(A=np.eye(3), b=np.ones(3), preconditioner="jacoby"), "nearest known: jacobi"),
    "a class": (dict(A=np.eye(3), b=np.ones(3), method=CG), "CG()"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_remedy(name):
    arguments, message = BAD[name]
    with pytest.raises((BadInputError, IncompatibleError, UnknownNameError), match=message):
        precond.solve(**arguments)


def test_refuses_before_the_first_product():
    def product(x):
        raise AssertionError("a product was taken")

    for traits, method in (({"symmetric": False}, "cg"), ({"symmetric": True, "definite": False}, "cg")):
        with pytest.raises(IncompatibleError):
            precond.solve(FunctionOperator(product, (3, 3), **traits), np.ones(3), method=method)


def test_a_false_claim_of_symmetry_is_refused():
    for matrix in (upper, scipy.sparse.csr_array(upper)):
        with pytest.raises(BadInputError, match="declared symmetric"):
            as_operator(matrix, symmetric=True)
    nearly = dense * (1 + 1e-16 * rng.standard_normal((36, 36)))
    assert as_operator(nearly).traits.symmetric


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.complex128])
def test_rounding_does_not_make_a_matrix_nonsymmetric(kind):
    x = rng.standard_normal((200, 200)).astype(kind)
    if kind is np.complex128:
        x = x + 1j * rng.standard_normal((200, 200))
    scales = np.geomspace(1, 1e6, 200).astype(x.real.dtype)
    gram = (x * 3) @ (x.conj().T / 3) + np.eye(200, dtype=kind)  # rounded differently on both sides of the diagonal
    gram = scales[:, None] * gram * scales
    assert (gram != gram.conj().T).any()
    for matrix in (gram, torch.from_numpy(gram), scipy.sparse.csr_array(gram)):
        assert as_operator(matrix).traits.symmetric
    gram[0, 1] += 1e-4 * abs(gram[0, 0] * gram[1, 1]) ** 0.5
    for matrix in (gram, torch.from_numpy(gram), scipy.sparse.csr_array(gram)):
        assert not as_operator(matrix).traits.symmetric
    with pytest.raises(IncompatibleError, match=r"\(A \+ A\^H\) / 2"):
        precond.solve(gram, np.ones(200, kind), method="cg")


def test_a_matrix_that_is_declared_symmetric_is_multiplied_as_it_is():
    a = np.eye(100) * 2 + np.triu(np.full((100, 100), 1e-7))
    operator = as_operator(a, symmetric=True)
    v = rng.standard_normal(100)
    np.testing.assert_allclose(operator.matvec(torch.from_numpy(v[None]))[0].numpy(), a @ v, rtol=1e-14, atol=1e-14)


def test_read_only_and_swapped_arrays_are_read_without_a_word():
    frozen = dense.copy(), B.copy()
    for array in frozen:
        array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for a, b in (frozen, (dense.astype(">f8"), B.astype(">f8"))):
            result = precond.solve(a, b)
            assert result.converged
            assert result.x.dtype == np.float64
            np.testing.assert_allclose(dense @ result.x, B, atol=1e-6)


def test_does_not_write_to_its_arguments():
    a, b, x0 = A.copy(), B.copy(), exact.copy() + 1
    kept = a.data.copy(), b.copy(), x0.copy()
    precond.solve(a, b, x0=x0)
    for now, then in zip((a.data, b, x0), kept, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "deflation", "ilu0"])
@pytest.mark.parametrize("method", ["gcrodr", "idr", "chebyshev"])
def test_methods_that_go_row_by_row_take_any_preconditioner_and_number_of_columns(method, preconditioner):
    if method == "chebyshev" and preconditioner == "ilu0":
        pytest.skip("needs a symmetric preconditioner")
    result = precond.solve(A, B, method=method, preconditioner=preconditioner)
    assert result.converged, result.message
    assert residual(dense, B, result.x) <= 1.01e-8
    batch = precond.solve(np.stack([dense, 2 * dense]), B.T[:2].copy(), method=method)
    assert batch.converged, batch.message
    inner = InverseOf({"gcrodr": GCRODR(), "idr": IDR(), "chebyshev": Chebyshev()}[method], Jacobi())
    assert precond.solve(A, B, method="fgmres", preconditioner=inner).converged


@pytest.mark.parametrize("solver", [precond.solve, precond.lstsq])
@pytest.mark.parametrize(("of_matrix", "of_right"), [(1e200, 1e-200), (1e-200, 1e200)])
def test_a_solution_that_numbers_cannot_express_is_not_claimed(solver, of_matrix, of_right):
    result = solver(np.diag([1.0, 2.0, 3.0]) * of_matrix, np.ones(3) * of_right)
    assert result.status is Status.FAILED_NON_FINITE


@pytest.mark.parametrize("solver", [precond.solve, precond.lstsq])
@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_a_common_unit_of_matrix_and_right_hand_side_changes_nothing(solver, unit):
    result = solver(np.diag([1.0, 2.0, 4.0]) * unit, np.ones(3) * unit)
    assert result.converged
    np.testing.assert_allclose(result.x, [1, 0.5, 0.25], rtol=1e-7)
