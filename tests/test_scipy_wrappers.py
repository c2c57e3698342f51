"""``precond.scipy`` beside ``scipy.sparse.linalg`` on the same inputs."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg as theirs
import torch

import precond.scipy as ours
from precond.operators import as_operator
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(1)
N = 36
A = poisson(6)
B = rng.standard_normal(N)
SKEWED = scipy.sparse.csr_array(A + scipy.sparse.diags_array([np.ones(N - 1)], offsets=[1]))
INDEFINITE = scipy.sparse.csr_array(A - 3.3 * scipy.sparse.eye_array(N))
TALL = rng.standard_normal((15, 6))
JACOBI = scipy.sparse.diags_array(1 / A.diagonal())
NAMES = ("cg", "minres", "gmres", "bicgstab", "gcrotmk")
MATRIX = {"cg": A, "minres": INDEFINITE, "gmres": SKEWED, "bicgstab": SKEWED, "gcrotmk": SKEWED}
square = pytest.mark.parametrize("name", NAMES)


def call(module, name, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(module, name)(*args, **kwargs)


@pytest.mark.parametrize("name", [*NAMES, "lsqr", "lsmr"])
def test_signatures_are_the_same(name):
    mine, other = (inspect.signature(getattr(m, name)).parameters.values() for m in (ours, theirs))
    assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in other]


@square
@pytest.mark.parametrize("form", [lambda a: a, lambda a: a.toarray(), theirs.aslinearoperator, lambda a: a.tocoo()])
def test_solves_every_form_as_they_do(name, form):
    a = MATRIX[name]
    x, info = call(ours, name, form(a), B, rtol=1e-10)
    expected, theirs_info = call(theirs, name, form(a), B, rtol=1e-10)
    assert (info, theirs_info) == (0, 0)
    assert isinstance(info, int)
    assert x.shape == (N,)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-7)
    assert np.linalg.norm(B - a @ x) <= 1e-10 * np.linalg.norm(B)


@square
def test_takes_a_preconditioner_and_applies_it(name):
    calls = []

    def product(v):
        calls.append(v.shape)
        return JACOBI @ v

    M = theirs.LinearOperator((N, N), matvec=product, dtype=float)
    x, info = call(ours, name, MATRIX[name], B, M=M, rtol=1e-9)
    assert info == 0
    assert calls
    np.testing.assert_allclose(MATRIX[name] @ x, B, atol=1e-7)


@square
def test_a_zero_right_hand_side_gives_zero(name):
    for x0 in (None, np.ones(N)):
        x, info = call(ours, name, MATRIX[name], np.zeros(N), x0=x0)
        assert info == 0
        assert x.shape == (N,)
        assert not x.any()


@square
def test_an_exact_initial_guess_needs_no_iteration(name):
    seen = []
    exact = np.arange(1.0, 5.0)
    x, info = call(ours, name, np.diag([1.0, 2.0, 4.0, 8.0]), exact * [1, 2, 4, 8], x0=exact, callback=seen.append)
    assert info == 0
    assert len(seen) == (name == "gcrotmk")  # which calls back at the start of each cycle, there as here
    np.testing.assert_array_equal(x, exact)


@square
def test_the_right_hand_side_may_be_a_column_and_the_answer_is_flat(name):
    x, _ = call(ours, name, MATRIX[name], B[:, None], x0=np.ones((N, 1)))
    expected, _ = call(theirs, name, MATRIX[name], B[:, None], x0=np.ones((N, 1)))
    assert x.shape == expected.shape == (N,)


@square
@pytest.mark.parametrize(
    "arguments",
    [
        {"A": TALL},
        {"b": np.ones(N + 1)},
        {"b": np.ones((N, 2))},
        {"b": np.ones((1, N))},
        {"x0": np.ones(3)},
        {"M": np.eye(3)},
    ],
    ids=lambda a: next(iter(a)),
)
def test_shapes_that_do_not_fit_are_refused_as_they_are_there(name, arguments):
    for module in (ours, theirs):
        with pytest.raises(ValueError):
            call(module, name, **{"A": MATRIX[name], "b": B, **arguments})


@square
@pytest.mark.parametrize(
    ("a", "b"), [("f", "f"), ("f", "d"), ("d", "f"), ("F", "f"), ("f", "D"), ("d", "l"), ("l", "l")]
)
def test_types_of_answers_are_the_same(name, a, b):
    if name == "minres" and ({a, b} & {"F", "D"} or (a, b) == ("f", "f")):
        pytest.skip("MINRES there is for real systems, and works on single precision in double")
    matrix, rhs = np.diag([2, 3, 4]).astype(a), np.array([1, 2, 3]).astype(b)
    x, info = call(ours, name, matrix, rhs)
    expected, _ = call(theirs, name, matrix, rhs)
    assert info == 0
    assert x.dtype == expected.dtype


@square
def test_does_not_write_to_its_arguments(name):
    b, x0 = B.copy(), np.ones(N)
    call(ours, name, MATRIX[name], b, x0=x0)
    np.testing.assert_array_equal(b, B)
    np.testing.assert_array_equal(x0, np.ones(N))


@pytest.mark.parametrize("name", ["cg", "minres", "bicgstab"])
def test_callbacks_see_the_same_iterates(name):
    mine, other = [], []
    call(ours, name, MATRIX[name], B, maxiter=6, rtol=1e-12, callback=lambda x: mine.append(x.copy()))
    call(theirs, name, MATRIX[name], B, maxiter=6, rtol=1e-12, callback=lambda x: other.append(x.copy()))
    assert len(mine) == len(other) == 6
    np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("M", [None, JACOBI])
@pytest.mark.parametrize("kind", ["pr_norm", "legacy", "x", None])
def test_gmres_callbacks_are_called_as_often_with_the_same(kind, M):
    seen = {}
    for module in (ours, theirs):
        seen[module] = values = []

        def keep(v, values=values):
            return values.append(np.array(v))

        options = {"maxiter": 4, "restart": 5, "rtol": 1e-14, "M": M, "callback": keep, "callback_type": kind}
        x, info = call(module, "gmres", SKEWED, B, **options)
        values.append(x)
        assert info == 4
    assert len(seen[ours]) == len(seen[theirs])
    for mine, other in zip(seen[ours], seen[theirs], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9)


def test_gmres_warns_about_a_callback_without_type_and_refuses_unknown_types():
    with pytest.warns(DeprecationWarning, match="called without specifying `callback_type`"):
        ours.gmres(SKEWED, B, callback=lambda r: None)
    with pytest.raises(ValueError, match="callback_type"):
        ours.gmres(SKEWED, B, callback=lambda r: None, callback_type="y")


@square
def test_not_converged_gives_the_limit(name):
    options = {"maxiter": 1, "rtol": 1e-12, **({"m": 4, "k": 2} if name == "gcrotmk" else {})}
    x, info = call(ours, name, MATRIX[name], B, **options)
    _, expected = call(theirs, name, MATRIX[name], B, **options)
    assert info == expected == 1
    assert np.linalg.norm(B - MATRIX[name] @ x) > 1e-12 * np.linalg.norm(B)


def test_never_reports_what_the_residual_does_not_show():
    hilbert = 1 / (np.arange(12)[:, None] + np.arange(12) + 1.0)
    hard = np.diag(np.logspace(0, -12, 12))
    for name, a in (
        ("cg", hilbert),
        ("cg", hard),
        ("gmres", hard),
        ("minres", hilbert),
        ("bicgstab", hard),
        ("gcrotmk", hard),
    ):
        for rtol in (1e-8, 1e-14, 1e-18):
            x, info = call(ours, name, a, np.ones(12), rtol=rtol)
            assert info >= 0
            assert (info == 0) == (np.linalg.norm(np.ones(12) - a @ x) <= rtol * np.linalg.norm(np.ones(12)))


def test_absolute_tolerances():
    for name in ("cg", "gmres", "bicgstab", "gcrotmk"):
        x, info = call(ours, name, MATRIX[name], B, rtol=0.0, atol=1e-3)
        assert info == 0
        assert 1e-12 < np.linalg.norm(B - MATRIX[name] @ x) <= 1e-3
        for atol in (None, "legacy", -1.0):
            with pytest.raises(ValueError, match="atol"):
                call(ours, name, MATRIX[name], B, atol=atol)


def test_a_start_named_mb_and_a_psolve_of_the_matrix():
    seen = []
    x, _ = ours.cg(A, B, x0="Mb", M=JACOBI, maxiter=1, callback=seen.append)
    expected, _ = theirs.cg(A, B, x0="Mb", M=JACOBI, maxiter=1)
    np.testing.assert_allclose(x, expected, rtol=1e-10)
    with_psolve = theirs.aslinearoperator(A)
    with_psolve.psolve = lambda v: JACOBI @ v
    first, _ = ours.cg(with_psolve, B, maxiter=3)
    second, _ = ours.cg(A, B, M=JACOBI, maxiter=3)
    np.testing.assert_allclose(first, second)


def test_minres_shifts_shows_and_checks(capsys):
    x, _ = ours.minres(A, B, shift=0.5, rtol=1e-10, show=True)
    np.testing.assert_allclose((A - 0.5 * scipy.sparse.eye_array(N)) @ x, B, atol=1e-8)
    assert "minres" in capsys.readouterr().out
    for module in (ours, theirs):
        with pytest.raises(ValueError, match="symmetric"):
            module.minres(SKEWED, B, check=True)
        with pytest.raises(ValueError, match="indefinite preconditioner"):
            module.minres(A, B, M=-np.eye(N))


def test_minres_solves_a_singular_inconsistent_system_in_the_least_squares_sense():
    a, b = np.diag([1.0, 2.0, 3.0, 0.0]), np.ones(4)
    x, info = ours.minres(a, b)
    _, expected = theirs.minres(a, b)
    assert info == expected == 0
    np.testing.assert_allclose((b - a @ x), [0, 0, 0, 1], atol=1e-5)


LEAST = {
    "tall": dict(A=TALL, b=rng.standard_normal(15)),
    "consistent": dict(A=TALL, b=TALL @ np.arange(6.0)),
    "wide": dict(A=TALL.T, b=np.arange(6.0)),
    "damped": dict(A=TALL, b=np.arange(15.0), damp=0.7),
    "start": dict(A=TALL, b=np.arange(15.0), x0=np.ones(6)),
    "damped start": dict(A=TALL, b=np.arange(15.0), x0=np.ones(6), damp=2.0),
    "zero": dict(A=TALL, b=np.zeros(15)),
    "limit": dict(A=TALL, b=np.arange(15.0), iter_lim=2),
    "ill": dict(A=TALL * np.logspace(0, -2, 6), b=np.arange(15.0), conlim=10.0, atol=0.0, btol=0.0),
    "tight": dict(A=TALL, b=np.arange(15.0), atol=1e-10, btol=1e-10),
    "sparse": dict(A=scipy.sparse.csr_array(TALL), b=np.arange(15.0)[:, None]),
    "exact start": dict(A=TALL, b=TALL @ np.ones(6), x0=np.ones(6)),
}


@pytest.mark.parametrize("case", LEAST)
def test_lsqr_returns_the_ten_values_that_they_return(case):
    arguments = {**LEAST[case], "calc_var": True}
    mine, other = ours.lsqr(**arguments), theirs.lsqr(**arguments)
    assert len(mine) == len(other) == 10
    x, istop, itn, r1norm, r2norm, anorm, acond, arnorm, _, var = mine
    assert (istop, itn) == (other[1], other[2])
    np.testing.assert_allclose(x, other[0], rtol=1e-6, atol=1e-9)
    damp, start = arguments.get("damp", 0.0), arguments.get("x0", np.zeros(len(x)))
    r = np.ravel(arguments["b"]) - arguments["A"] @ x
    assert r1norm == pytest.approx(np.linalg.norm(r), abs=1e-12)
    assert r2norm == pytest.approx(np.hypot(np.linalg.norm(r), damp * np.linalg.norm(x - start)), abs=1e-12)
    assert arnorm == pytest.approx(np.linalg.norm(arguments["A"].T @ r - damp**2 * (x - start)), abs=1e-10)
    assert mine[8] == pytest.approx(np.linalg.norm(x))
    if itn:
        assert (anorm, acond) == pytest.approx((other[5], other[6]), rel=1e-6)
        np.testing.assert_allclose(var, other[9], rtol=1e-6)
    assert not ours.lsqr(**LEAST[case])[9].any()


def test_lsqr_refuses_shapes_that_do_not_fit_and_shows(capsys):
    with pytest.raises(ValueError, match="incompatible"):
        ours.lsqr(TALL, np.ones(3))
    with pytest.raises(ValueError, match="incompatible"):
        ours.lsqr(TALL, np.ones(15), x0=np.ones(3))
    ours.lsqr(TALL, np.ones(15), show=True)
    assert "lsqr" in capsys.readouterr().out


@pytest.mark.parametrize("case", LEAST)
def test_lsmr_returns_the_eight_values_that_they_return(case):
    arguments = {("maxiter" if key == "iter_lim" else key): value for key, value in LEAST[case].items()}
    mine, other = ours.lsmr(**arguments), theirs.lsmr(**arguments)
    assert len(mine) == len(other) == 8
    x, istop, itn, normr, normar, norma, conda, normx = mine
    assert (istop, itn) == (other[1], other[2])
    np.testing.assert_allclose(x, other[0], rtol=1e-6, atol=1e-9)
    assert normr == pytest.approx(other[3], rel=1e-6, abs=1e-10)
    assert normar == pytest.approx(other[4], rel=1e-4, abs=1e-9)
    assert normx == pytest.approx(np.linalg.norm(x))
    if itn:
        assert (norma, conda) == pytest.approx((other[5], other[6]), rel=1e-6)


def test_gcrotmk_hands_a_subspace_on_and_needs_fewer_products_for_it():
    from scipy.sparse.linalg import LinearOperator

    n, counts = 196, {}
    for name in ("kept", "cold"):
        CU = []
        for i in range(6):
            a = scipy.sparse.csr_array(poisson(14) - (0.3 + 0.001 * i) * scipy.sparse.eye_array(n))
            products = []
            A_ = LinearOperator((n, n), matvec=lambda v, a=a, p=products: p.append(1) or a @ v, dtype=float)
            b = np.random.default_rng(i).standard_normal(n)
            x, info = ours.gcrotmk(A_, b, m=17, k=8, CU=CU if name == "kept" else None, discard_C=True, rtol=1e-8)
            assert info == 0
            assert np.linalg.norm(b - a @ x) <= 1.01e-8 * np.linalg.norm(b)
            counts[name] = counts.get(name, 0) + len(products)
        if name == "kept":
            assert all(c is None and u.shape == (n,) for c, u in CU)
            assert 0 < len(CU) <= 8
    assert counts["kept"] < 0.95 * counts["cold"]


def test_gcrotmk_needs_no_more_products_over_many_cycles():
    n = 10_000
    wind = scipy.sparse.diags_array([np.full(n - 1, 0.3), np.full(n, -0.3)], offsets=[1, 0])
    windy, b = scipy.sparse.csr_array(poisson(100) + wind), np.random.default_rng(1).standard_normal(n)
    products = {}
    for module in (ours, theirs):
        count = []
        counting = theirs.LinearOperator((n, n), matvec=lambda v, c=count: c.append(None) or windy @ v, dtype=float)
        assert module.gcrotmk(counting, b, rtol=1e-8)[1] == 0
        products[module] = len(count)
    assert products[ours] <= products[theirs]


def test_gcrotmk_returns_images_and_takes_any_list_to_begin_with():
    CU = []
    ours.gcrotmk(SKEWED, B, CU=CU, m=5, k=3, rtol=1e-8)
    for c, u in CU:
        np.testing.assert_allclose(SKEWED @ u, c, atol=1e-8)
    for strange in ([(None, np.ones(N + 1))], [(None, np.zeros(N))], [(None, np.ones(N)), (None, np.ones(N))]):
        x, info = ours.gcrotmk(SKEWED, B, CU=strange, rtol=1e-9)
        assert info == 0
        np.testing.assert_allclose(SKEWED @ x, B, atol=1e-6)
    for module in (ours, theirs):
        with pytest.raises(ValueError, match="truncate"):
            module.gcrotmk(SKEWED, B, truncate="newest")


def test_gcrotmk_calls_back_at_the_start_of_each_cycle():
    seen = {ours: [], theirs: []}
    for module, values in seen.items():
        module.gcrotmk(SKEWED, B, m=5, k=2, maxiter=3, rtol=1e-14, callback=lambda x, v=values: v.append(x.copy()))
    np.testing.assert_array_equal(seen[ours][0], np.zeros(N))
    np.testing.assert_allclose(seen[ours][1], seen[theirs][1], rtol=1e-6)  # the first cycle is the same


def test_gcrotmk_looks_at_the_start_of_a_cycle_and_keeps_what_it_was_given():
    for module in (ours, theirs):
        calls = []
        x, info = module.gcrotmk(np.diag([1.0, 2.0, 3.0]), np.ones(3), maxiter=1, callback=calls.append)
        np.testing.assert_allclose(x, [1, 1 / 2, 1 / 3])
        assert (info, len(calls)) == (1, 1)
        x, info = module.gcrotmk(np.diag([1.0, 2.0, 3.0]), np.ones(3), maxiter=2, callback=calls.append)
        assert (info, len(calls)) == (0, 3)
        CU = []
        module.gcrotmk(SKEWED, B, CU=CU, discard_C=True, rtol=1e-12)
        size = len(CU)
        module.gcrotmk(SKEWED, B, CU=CU, discard_C=True, rtol=1e-3)
        assert len(CU) >= size > 0


@pytest.mark.parametrize("name", [*NAMES, "lsqr", "lsmr"])
def test_tensors_are_read_but_not_where_they_require_a_gradient(name):
    a = torch.from_numpy(MATRIX.get(name, A).toarray())
    b = torch.from_numpy(B)
    expected = getattr(ours, name)(a.numpy(), B)[0]
    for matrix in (a, a.to_sparse_csr(), a.to_sparse_coo()):
        x = getattr(ours, name)(matrix, b, x0=torch.zeros(N, dtype=torch.float64))[0]
        assert isinstance(x, np.ndarray)
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-8)
    for matrix, right in ((a.clone().requires_grad_(), b), (a, b.clone().requires_grad_())):
        with pytest.raises(ValueError, match=r"precond\.solve"):
            getattr(ours, name)(matrix, right)


@square
def test_what_is_no_matrix_is_named_with_the_remedy(name):
    for arguments in (("matrix", B), (A, B, None, "preconditioner"), (as_operator(A), B)):
        rest = {"x0": arguments[2], "M": arguments[3]} if len(arguments) > 2 else {}
        with pytest.raises(ValueError, match=r"give a SciPy|use precond"):
            getattr(ours, name)(*arguments[:2], **rest)
    with pytest.raises(ValueError, match="whole number"):
        getattr(ours, name)(A, B, maxiter=1.5)


@square
def test_no_iterations_allowed_is_no_convergence(name):
    x, info = getattr(ours, name)(MATRIX[name], B, maxiter=0)
    assert info > 0
    assert not x.any()


@square
def test_a_preconditioner_in_single_precision_costs_no_accuracy(name):
    factors = theirs.splu(scipy.sparse.csc_array(MATRIX[name]))
    calls = []

    def coarse(v):
        calls.append(v)
        return factors.solve(np.asarray(v, float)).astype(np.float32)

    if name == "minres":  # which needs a symmetric map

        def coarse(v):
            return (JACOBI @ v).astype(np.float32)

    M = theirs.LinearOperator(A.shape, coarse, dtype=np.float32)
    x, info = getattr(ours, name)(MATRIX[name], B, rtol=1e-12, M=M)
    assert info == 0
    assert x.dtype == np.float64
    assert np.linalg.norm(B - MATRIX[name] @ x) <= 1e-12 * np.linalg.norm(B)
    assert len(calls) < 20


def test_gmres_ends_when_the_true_residual_is_small_though_the_preconditioned_is_not():
    laplacian = scipy.sparse.diags_array([-np.ones(299), np.full(300, 2.0), -np.ones(299)], offsets=[-1, 0, 1])
    a = scipy.sparse.csr_array(scipy.sparse.diags_array(1 + 9 * np.random.default_rng(3).random(300)) @ laplacian)
    b = np.cos(np.pi * np.arange(300))  # which M, near the inverse of a Laplacian, makes shorter than anything
    factors = theirs.splu(scipy.sparse.csc_array(laplacian + 1e-4 * scipy.sparse.eye_array(300)))
    M = theirs.LinearOperator(a.shape, factors.solve, dtype=float)
    products = {}
    for module in (ours, theirs):
        count = []
        counting = theirs.LinearOperator(a.shape, lambda v, c=count: (c.append(1), a @ v)[1], dtype=float)
        x, info = module.gmres(counting, b, M=M, rtol=1e-5, restart=20, maxiter=40)
        assert info == 0
        assert np.linalg.norm(b - a @ x) <= 1e-5 * np.linalg.norm(b)
        products[module] = len(count)
    assert products[ours] <= 1.2 * products[theirs]


@square
def test_an_interrupt_is_not_kept_from_the_caller(name):
    def interrupt(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(ours, name, MATRIX[name], B, callback=interrupt)


@square
@pytest.mark.parametrize("kind", [np.float32, float, complex])
def test_an_exact_preconditioner_costs_a_product_and_one_that_proves_it(name, kind):
    matrix, inverse = A.toarray().astype(kind), np.linalg.inv(A.toarray()).astype(kind)
    seen = []
    counted = theirs.LinearOperator(matrix.shape, lambda v: seen.append(1) or matrix @ v, dtype=matrix.dtype)
    x, info = getattr(ours, name)(counted, B.astype(kind), M=inverse, rtol=1e-4)
    assert (info, len(seen), x.dtype) == (0, 2, np.dtype(kind))
    assert np.linalg.norm(B - matrix @ x) <= 1e-4 * np.linalg.norm(B)


@square
def test_a_preconditioner_that_claims_too_much_is_found_out(name):
    """Where the preconditioner forgets a part of the residual, so does GMRES from the left; the others see it all."""
    holes = np.ones(N)
    holes[3:9] = 1e-9 if name != "minres" else 1e-3
    x, info = getattr(ours, name)(A, B, M=np.diag(holes), rtol=1e-8, maxiter=600)
    left = np.linalg.norm(B - A @ x) / np.linalg.norm(B)
    assert (info == 0) == (left <= 1.0000001e-8)


@square
def test_what_is_not_finite_or_has_broken_down_is_no_solution(name):
    for matrix in (np.full((3, 3), np.nan), np.zeros((3, 3)), np.array([[0.0, 1.0, 0], [-1.0, 0, 0], [0, 0, 0]])):
        with np.errstate(all="ignore"):
            x, info = getattr(ours, name)(matrix, np.ones(3), maxiter=20)
        assert x.shape == (3,)
        stationary = name == "minres" and np.linalg.norm(matrix @ (1 - matrix @ x)) <= 1e-5 * np.linalg.norm(matrix)
        assert info > 0 or stationary


def test_gcrotmk_goes_through_many_cycles_as_sure_as_through_one():
    matrix = scipy.sparse.csr_array(SKEWED + 0j) * np.exp(0.3j)
    for a, kind in ((SKEWED, float), (SKEWED, np.float32), (matrix, complex)):
        b = B.astype(kind)
        for M in (None, scipy.sparse.diags_array(1 / SKEWED.diagonal())):
            x, info = ours.gcrotmk(a.astype(kind), b, M=M, m=4, k=4, rtol=1e-4, maxiter=500)
            assert info == 0
            assert np.linalg.norm(b - a @ x) <= 1.01e-4 * np.linalg.norm(b)


@square
@pytest.mark.parametrize("kind", [object, int, np.float16, np.longdouble])
def test_a_matrix_of_another_type_counts_as_double(name, kind):
    matrix = np.diag([4, 5, 6]).astype(kind)
    for M in (None, np.diag([1, 1, 1]).astype(kind)):
        x, info = getattr(ours, name)(matrix, np.array([4, 10, 18]), M=M, x0=np.ones(3))
        assert (info, x.dtype) == (0, np.dtype(float))
        np.testing.assert_allclose(x, [1, 2, 3], rtol=1e-4)
