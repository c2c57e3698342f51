"""``precond.minimize`` with a penalty: forms, edges, and what is claimed of the result."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

import precond
from precond.core import BadInputError, IncompatibleError, Status
from precond.losses import LeastSquares, Logistic, Quadratic
from precond.penalties import L1, MCP, SCAD, Box, ElasticNet, GroupL1, Within
from tests.papers.sparse_toys import regression

A, Y, W = regression(20, 30)
M, N = A.shape
ROWS, TARGET = torch.tensor(A), torch.tensor(Y)
START = torch.zeros(N, dtype=torch.float64)
METHODS = (
    "auto", "fista", "proximal-gradient", "accelerated-gradient", "block-descent", "coordinate-descent",
)  # fmt: skip
every_method = pytest.mark.parametrize("method", METHODS)


def squares(x: torch.Tensor) -> torch.Tensor:
    return (ROWS @ x - TARGET).square().sum() / (2 * M)


def distance(x: np.ndarray, lam: float) -> float:
    """Return the distance to stationarity for l1, by cases."""
    g, total = A.T @ (A @ x - Y) / M, 0.0
    for j in range(N):
        total += (max(abs(g[j]) - lam, 0) if x[j] == 0 else g[j] + lam * np.sign(x[j])) ** 2
    return total**0.5


@every_method
def test_the_certificate_is_the_distance_to_stationarity(method: str) -> None:
    result = precond.minimize(LeastSquares(A, Y), START, penalty=L1(0.2), method=method)
    assert result.status is Status.CONVERGED_STATIONARY
    assert result.certificate.value == pytest.approx(distance(result.x.numpy(), 0.2), abs=1e-12)
    assert result.certificate.value <= 1e-6
    stopped = precond.minimize(LeastSquares(A, Y), START, penalty=L1(0.2), method=method, max_iterations=0)
    assert stopped.status is Status.STOPPED_STEPS
    assert stopped.certificate.value == pytest.approx(distance(np.zeros(N), 0.2))


@every_method
@pytest.mark.parametrize("make", [lambda lam: L1(lam), lambda lam: SCAD(lam), lambda lam: MCP(lam)])
def test_weights_of_zero_and_beyond_all(method: str, make) -> None:
    loss = LeastSquares(A, Y)
    free = precond.minimize(loss, START, penalty=make(0.0), method=method, tol=1e-5)
    assert free.converged
    assert float((A.T @ (A @ free.x.numpy() - Y)).max() / M) < 1e-4
    for start in (START, START + 100):
        gone = precond.minimize(loss, start, penalty=make(1e9), method=method)
        assert gone.converged
        assert not gone.x.any()


@every_method
def test_columns_that_repeat_or_vanish(method: str) -> None:
    twice, holes = np.repeat(A[:, :10], 3, axis=1), A.copy()
    holes[:, ::2] = 0
    for matrix in (twice, holes, scipy.sparse.csr_array(holes), 0 * A, A[:, :1], A[:, :0], A[:0]):
        targets = Y[: matrix.shape[0]]
        for penalty in (L1(0.1), SCAD(0.1)):
            start = torch.ones(matrix.shape[1], dtype=torch.float64)
            result = precond.minimize(LeastSquares(matrix, targets), start, penalty=penalty, method=method, tol=1e-5)
            assert result.converged, (matrix.shape, result.message)


def test_forms_of_the_same_problem() -> None:
    expected = precond.minimize(LeastSquares(A, Y), START, penalty=L1(0.2), tol=1e-9).x.numpy()

    def gradient(x: np.ndarray) -> np.ndarray:
        return A.T @ (A @ x - Y) / M

    def value(x: np.ndarray) -> float:
        return float(((A @ x - Y) ** 2).sum() / (2 * M))

    model = nn.Linear(N, 1, bias=False).double()
    found = [
        precond.minimize(squares, START, penalty=L1(0.2), tol=1e-9).x.numpy(),
        precond.minimize(value, np.zeros(N), jac=gradient, penalty=L1(0.2), tol=1e-9).x,
        precond.minimize(
            value, np.zeros(N), jac=gradient, hessp=lambda x, p: A.T @ (A @ p) / M, penalty=L1(0.2), tol=1e-9
        ).x,
        precond.minimize(lambda p: squares(p["w"]), {"w": START}, penalty={"w": L1(0.2)}, tol=1e-9).x["w"].numpy(),
        precond.minimize(
            lambda m: squares(m.weight[0]), model, penalty={"weight": L1(0.2)}, tol=1e-9
        ).x.weight.detach().numpy()[0],
        precond.minimize(LeastSquares(ROWS.to_sparse_csr(), Y), [0] * N, penalty=L1(0.2), tol=1e-9).x.numpy(),
        precond.minimize(LeastSquares(scipy.sparse.coo_array(A), Y), START, penalty=L1(0.2), tol=1e-9).x.numpy(),
        precond.minimize(Quadratic(A.T @ A / M, A.T @ Y / M), START, penalty=L1(0.2), tol=1e-9).x.numpy(),
    ]  # fmt: skip
    for x in found:
        np.testing.assert_allclose(x, expected, atol=1e-7)
    assert model.weight.requires_grad


def test_only_the_named_tensors_are_penalized() -> None:
    def fun(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return squares(p["w"]) + (p["shift"] - 3).square().sum()

    start = {"w": START, "shift": torch.zeros((), dtype=torch.float64)}
    result = precond.minimize(fun, start, penalty={"w": SCAD(9.0)})
    assert result.converged
    assert not result.x["w"].any()
    assert float(result.x["shift"]) == pytest.approx(3.0)
    with pytest.raises(BadInputError, match="no variable is named 'v'; there are w, shift"):
        precond.minimize(fun, {"w": START, "shift": torch.zeros(()).double()}, penalty={"v": L1(1.0)})


def test_an_intercept_has_weight_zero() -> None:
    weights = [0.0] + [0.3] * (N - 1)
    result = precond.minimize(LeastSquares(A, Y + 5), START, penalty=L1(weights), tol=1e-9)
    assert result.converged
    assert abs(A[:, 0] @ (A @ result.x.numpy() - Y - 5)) < 1e-7


@every_method
def test_single_precision(method: str) -> None:
    loss = LeastSquares(A.astype(np.float32), Y.astype(np.float32))
    result = precond.minimize(loss, np.zeros(N, np.float32), penalty=MCP(0.2), method=method, tol=1e-4)
    assert result.converged
    assert result.x.dtype == np.float32
    rows, y = ROWS.float(), TARGET.float()
    if method not in ("block-descent", "coordinate-descent"):
        torch_form = precond.minimize(
            lambda x: (rows @ x - y).square().mean() / 2, torch.zeros(N), penalty=MCP(0.2), method=method, tol=1e-4
        )
        assert torch_form.converged


@every_method
def test_stops_where_it_is_told(method: str) -> None:
    loss, seen = LeastSquares(A, Y), []
    result = precond.minimize(
        loss, START, penalty=L1(1e-3), method=method, callback=lambda e: seen.append(e) or e.iteration == 1, tol=1e-12
    )
    assert result.status is Status.STOPPED_USER
    assert [event.iteration for event in seen] == [0, 1]
    assert seen[1].x.shape == (N,)
    assert seen[1].gradient_norm == pytest.approx(distance(seen[1].x.numpy(), 1e-3))

    def interrupt(event) -> None:
        if event.iteration == 1:
            raise KeyboardInterrupt

    result = precond.minimize(loss, START, penalty=L1(1e-3), method=method, callback=interrupt, tol=1e-12)
    assert result.status is Status.STOPPED_INTERRUPT
    assert result.certificate.extra["objective"] < float(squares(START)), "the best point so far"


@every_method
def test_a_start_outside_of_the_box_is_moved_inside(method: str) -> None:
    result = precond.minimize(LeastSquares(A, Y), START + 7, penalty=Box(-1.0, 0.5), method=method)
    assert result.converged
    assert float(result.x.max()) <= 0.5
    assert float(result.x.min()) >= -1.0


@pytest.mark.parametrize("method", ["auto", "fista", "proximal-gradient", "accelerated-gradient"])
def test_trouble_has_a_name(method: str) -> None:
    def never(x: torch.Tensor) -> torch.Tensor:
        return squares(x) * float("nan")

    def later(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.sum() > 0.1, torch.nan, 1.0) * (x - 1).square().sum()

    def down(x: torch.Tensor) -> torch.Tensor:
        return x.sum() - x.square().sum()

    run = {"penalty": L1(0.01), "method": method, "max_iterations": 2000}
    assert precond.minimize(never, START, **run).status is Status.FAILED_NON_FINITE
    result = precond.minimize(later, START, **run)
    assert result.status.group in ("failed", "stopped")
    assert np.isfinite(result.certificate.extra["objective"])
    assert precond.minimize(down, START, **run).status is Status.FAILED_UNBOUNDED
    with pytest.raises(BadInputError, match="NaN"):
        precond.minimize(squares, START * float("nan"), **run)


def test_a_function_that_is_not_convex() -> None:
    def double_well(x: torch.Tensor) -> torch.Tensor:
        return (x**4).sum() - 3 * x.square().sum() + x.sum()

    for penalty in (L1(0.1), SCAD(0.1), GroupL1(0.1, 3), ElasticNet(0.1, 0.1)):
        result = precond.minimize(double_well, START + 0.1, penalty=penalty)
        assert result.converged
        assert result.certificate.extra["objective"] < -95


def test_once_differentiable_functions_get_first_order_methods() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x - 1).square().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 2 * g * (ctx.saved_tensors[0] - 1)

    result = precond.minimize(Once.apply, START, penalty=L1(0.5))
    assert result.method == "fista (auto: fun cannot be differentiated twice)"
    assert result.converged
    torch.testing.assert_close(result.x, torch.full_like(START, 0.75), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"penalty": 0.1}, BadInputError, "one of precond.penalties"),
        ({"penalty": {"w": L1(1.0)}}, BadInputError, "x0 is one tensor"),
        ({"penalty": L1([1.0, 2.0])}, BadInputError, "2 weights and there are 30 variables"),
        ({"penalty": GroupL1(1.0, [0, 1])}, BadInputError, "2 memberships"),
        ({"penalty": Box([0.0], 1.0)}, BadInputError, "1 lower bounds for 30 variables"),
        ({"penalty": L1(1.0), "bounds": [(0, 1)] * N}, BadInputError, "Within"),
        ({"penalty": L1(1.0), "lr": 0.1}, BadInputError, "leave lr"),
        (
            {"penalty": L1(1.0), "method": "lbfgs"},
            IncompatibleError,
            "without .*: use one of .*prox-newton",
        ),
        ({"penalty": GroupL1(1.0, 3), "method": "block-descent"}, IncompatibleError, "fista"),
        ({"penalty": Within(SCAD(1.0), 0.0), "method": "accelerated-gradient"}, IncompatibleError, "no split"),
        ({"method": "prox-newton"}, IncompatibleError, "prox-newton"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        precond.minimize(LeastSquares(A, Y), START, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L1(-1.0), lambda: L1(float("nan")), lambda: L1("much"), lambda: SCAD(1.0, a=2.0),
        lambda: MCP(1.0, gamma=1.0), lambda: MCP(1.0, gamma=float("inf")), lambda: ElasticNet(1.0, -1.0),
        lambda: Box(1.0, 0.0), lambda: Box(float("nan"), 1.0), lambda: Within(GroupL1(1.0, 2), 0.0),
        lambda: GroupL1(1.0, 0), lambda: GroupL1(1.0, [0.5, 1.0]), lambda: GroupL1(1.0, [-1, 0]),
        lambda: LeastSquares(A, Y[:3]), lambda: LeastSquares(A * np.nan, Y), lambda: LeastSquares(Y, Y),
        lambda: LeastSquares(A, Y * np.inf), lambda: LeastSquares(A, Y, scale=-1.0), lambda: LeastSquares(A * 1j, Y),
        lambda: Logistic(A, np.arange(M)), lambda: Quadratic(A), lambda: Quadratic(np.triu(np.ones((3, 3)))),
        lambda: precond.minimize(LeastSquares(A, Y), START[:3], penalty=L1(1.0)),
        lambda: precond.minimize(LeastSquares(A, Y), START, jac=lambda x: x, penalty=L1(1.0)),
    ],
)  # fmt: skip
def test_bad_parts_are_refused(make) -> None:
    with pytest.raises((BadInputError, IncompatibleError)):
        make()


@pytest.mark.parametrize("labels", [(Y > 0), (Y > 0) * 1, np.where(Y > 0, 7, 3), np.sign(Y)])
def test_labels_of_any_kind(labels: np.ndarray) -> None:
    result = precond.minimize(Logistic(A, labels), START, penalty=L1(0.05), tol=1e-9)
    expected = precond.minimize(Logistic(A, np.sign(Y)), START, penalty=L1(0.05), tol=1e-9)
    np.testing.assert_allclose(result.x.numpy(), expected.x.numpy(), atol=1e-7)


def test_losses_are_torch_functions_too() -> None:
    for loss in (LeastSquares(A, Y, ridge=0.1), Logistic(scipy.sparse.csr_array(A), np.sign(Y)), Quadratic(A.T @ A)):
        x = torch.linspace(-1, 1, N, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(loss, x)
        assert torch.autograd.gradgradcheck(loss, x)
        value, gradient = loss.value_and_gradient(x)
        torch.testing.assert_close(value, loss(x).detach())
        torch.testing.assert_close(gradient, torch.autograd.grad(loss(x), x)[0])
    ridge = LeastSquares(A, Y, ridge=0.1)
    plain = precond.minimize(ridge, START, tol=1e-8)
    assert plain.converged
    expected = np.linalg.solve(A.T @ A / M + 0.1 * np.eye(N), A.T @ Y / M)
    np.testing.assert_allclose(plain.x.numpy(), expected, atol=1e-6)


def test_work_counts_and_history_are_there() -> None:
    result = precond.minimize(squares, START, penalty=SCAD(0.2))
    assert result.work.gradients >= result.iterations > 0
    assert len(result.history) == result.iterations + 1
    assert result.certificate.extra["support"] == int((result.x != 0).sum())


@pytest.mark.parametrize("penalty", [SCAD(0.04), MCP(0.04)])
def test_columns_that_are_nearly_alike_are_told_apart_in_few_iterations(penalty):
    """Sweeps alone would move weight from one of a pair to the other by a part in a million at a time."""
    g = torch.Generator().manual_seed(0)
    half = torch.randn(120, 60, generator=g, dtype=torch.float64)
    a = torch.cat([half, half + 1e-3 * torch.randn(120, 60, generator=g, dtype=torch.float64)], dim=1)
    b = a[:, :6].sum(1) + 0.3 * torch.randn(120, generator=g, dtype=torch.float64)
    result = precond.minimize(LeastSquares(a, b), torch.zeros(120).double(), penalty=penalty, tol=1e-8)
    assert result.converged
    assert result.iterations < 30


@pytest.mark.parametrize(("seed", "share"), [(1, 0.005), (2, 0.005), (0, 0.001)])
def test_nearly_alike_columns_in_the_concave_piece_of_scad(seed: int, share: float) -> None:
    """Where the model bends down along the difference of two columns, or its pieces are left one after the other."""
    g = np.random.default_rng(seed)
    m, n = 120, 200
    half = g.standard_normal((m, n // 2))
    a = np.c_[half, half + 1e-3 * g.standard_normal((m, n // 2))]
    a /= np.linalg.norm(a, axis=0) / np.sqrt(m)
    w = np.zeros(n)
    w[g.choice(n, 6, replace=False)] = g.choice([-1, 1], 6) * (1 + g.random(6))
    b = a @ w + 0.3 * g.standard_normal(m)
    lam = share * np.abs(a.T @ b).max() / m
    result = precond.minimize(LeastSquares(a, b), np.zeros(n), penalty=SCAD(lam), tol=1e-8, max_iterations=40)
    assert result.converged, result.message
    x, size = result.x, np.abs(result.x)
    slope = np.where(size <= lam, lam, np.maximum(3.7 * lam - size, 0) / 2.7) * np.sign(x)
    gradient = a.T @ (a @ x - b) / m
    slack = np.where(x != 0, gradient + slope, np.maximum(np.abs(gradient) - lam, 0))
    assert np.linalg.norm(slack) <= 1e-8
