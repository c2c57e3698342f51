"""Functions of a matrix times their variables: values, gradients and Hessians against autograd."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import precond
from precond.math.dense.weighted_gram import weighted_gram
from precond.solvers.smooth.objectives import TorchObjective

D = torch.float64
_g = torch.Generator().manual_seed(0)
X = torch.randn(200, 5, dtype=D, generator=_g)
Y = torch.sign(torch.randn(200, dtype=D, generator=_g))
LABELS = torch.randint(0, 3, (200,), generator=_g)
SPARSE = ((X > 0.5) * X).to_sparse_csr()


def _inner_gradient(w):
    inner = functional.softplus(X @ w).sum() + (w**4).sum()
    return torch.autograd.grad(inner, w, create_graph=True)[0].square().sum()


ASSEMBLED = {
    "logistic": (5, lambda w: functional.softplus(-Y * (X @ w)).mean() + w @ w / 400),
    "an intercept": (6, lambda w: functional.softplus(-Y * (X @ w[:-1] + w[-1])).mean() + w[:-1] @ w[:-1] / 400),
    "softmax": (15, lambda w: functional.cross_entropy(X @ w.view(5, 3), LABELS) + w @ w / 400),
    "a linear layer": (18, lambda w: functional.cross_entropy(functional.linear(X, w[:15].view(3, 5), w[15:]), LABELS)),
    "weights after the bias": (18, lambda w: functional.cross_entropy(X @ w[3:].view(5, 3) + w[:3], LABELS) + w @ w),
    "weights turned": (17, lambda w: functional.cross_entropy(X @ w[2:].view(3, 5).T, LABELS) + w @ w),
    "one column": (5, lambda w: functional.softplus(-Y * X.mm(w.view(-1, 1))[:, 0]).sum()),
    "powers beside": (5, lambda w: torch.log1p(torch.exp(-Y * torch.mv(X, w))).sum() + (w**4).sum()),
    "written in place": (5, lambda w: (X @ w).add_(1).square().sum()),
    "the product twice": (5, lambda w: (torch.exp(X @ w) - Y * (X @ w)).mean()),
    "from the right": (5, lambda w: functional.softplus(-Y * (w @ X.T)).mean()),
    "sparse": (5, lambda w: functional.softplus(-Y * (SPARSE @ w)).mean() + w @ w / 400),
    "a small network": (21, lambda w: (torch.tanh(X @ w[:15].view(5, 3)) @ w[15:18] + w[18:].sum()).square().mean()),
    "concave": (5, lambda w: torch.cos(X @ w).sum()),
}
PLAIN = {
    "no matrix": (5, lambda w: (w**4).sum()),
    "rows together": (5, lambda w: torch.logsumexp(X @ w, 0)),
    "variables together": (5, lambda w: functional.softplus(X @ w).mean() + w.sum() ** 4),
    "two places": (10, lambda w: functional.softplus((X @ w[:5]) * (X @ w[5:])).mean()),
    "not the variables themselves": (5, lambda w: functional.softplus(X @ (2 * w)).mean()),
    "a gradient inside": (5, _inner_gradient),
    "two layers wide": (60, lambda w: (torch.tanh(X @ w[:25].view(5, 5)) @ w[25:].view(5, 7)).square().mean()),
}


def agree(fun, x):
    objective = TorchObjective(fun, curvature=True)
    found = objective.learn(x)
    for at in (x, 1.5 * x + 0.1):
        point, operator = objective.point(at), objective.hessian(at)
        gradient = torch.autograd.functional.jacobian(fun, at[0])
        hessian = torch.autograd.functional.hessian(fun, at[0])
        torch.testing.assert_close(point.loss, fun(at[0].clone().requires_grad_()).detach())
        torch.testing.assert_close(point.gradient[0], gradient)
        torch.testing.assert_close(operator.matvec(torch.eye(len(gradient), dtype=D)), hessian)
        if found:
            torch.testing.assert_close(operator.assembled(), hessian)
            coarse = operator.assembled(coarse=True)
            assert float((coarse - hessian).abs().max()) <= 1e-5 * float(hessian.abs().max())
        else:
            assert operator.assembled() is None
    return found


@pytest.mark.parametrize("name", ASSEMBLED)
def test_structure_is_found_and_right(name):
    n, fun = ASSEMBLED[name]
    assert agree(fun, 0.3 * torch.randn(1, n, dtype=D, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", PLAIN)
def test_other_functions_are_left_alone(name):
    n, fun = PLAIN[name]
    assert not agree(fun, 0.3 * torch.randn(1, n, dtype=D, generator=torch.Generator().manual_seed(1)))


def test_a_function_that_changes_its_mind():
    """Structure at the start alone: later evaluations go the plain way."""

    def fun(w):
        return functional.softplus(X @ w).mean() + w @ w / 400 if w[0] <= 0 else ((w - 1) ** 2).sum() + w @ w / 400

    objective = TorchObjective(fun, curvature=True)
    assert objective.learn(torch.zeros(1, 5, dtype=D))
    at = torch.ones(1, 5, dtype=D)
    torch.testing.assert_close(objective.point(at).gradient[0], torch.autograd.functional.jacobian(fun, at[0]))
    torch.testing.assert_close(objective.hessian(at).matvec(torch.eye(5, dtype=D)), 2.005 * torch.eye(5, dtype=D))


@pytest.mark.parametrize("name", ["logistic", "powers beside", "concave", "an intercept", "softmax", "sparse"])
def test_blocks_of_hessians(name):
    n, fun = ASSEMBLED[name]
    x, index = torch.linspace(-1, 1, n, dtype=D)[None], torch.tensor([0, 2, 3])
    objective = TorchObjective(fun, curvature=True)
    assert objective.learn(x)
    objective.point(x)
    block = objective.hessian(x).block(index)
    if name in ("an intercept", "softmax", "sparse"):
        assert block is None
    else:
        hessian = torch.autograd.functional.hessian(fun, x[0])
        torch.testing.assert_close(block, hessian[index][:, index])
        assert objective.work.hvps == 3


def test_a_penalized_torch_function_takes_no_products_but_those_of_its_support():
    from precond.penalties import L1

    g = torch.Generator().manual_seed(2)
    a, b = torch.randn(60, 400, dtype=D, generator=g), torch.randn(60, dtype=D, generator=g)

    def fun(w):
        return (a @ w - b).square().sum() / 120

    plain = precond.minimize(fun, torch.zeros(400, dtype=D), penalty=L1(0.2), tol=1e-9)
    declared = precond.minimize(precond.losses.LeastSquares(a, b), torch.zeros(400, dtype=D), penalty=L1(0.2), tol=1e-9)
    assert plain.converged
    assert "a regression" in plain.method
    torch.testing.assert_close(plain.x, declared.x)
    assert plain.work.hvps == declared.work.hvps


@pytest.mark.parametrize("form", ["module", "dict"])
def test_modules_and_dicts(form):
    torch.manual_seed(0)
    if form == "module":
        layer = torch.nn.Linear(5, 3).double()
        result = precond.minimize(
            lambda model: functional.cross_entropy(model(X), LABELS) + sum((p**2).sum() for p in model.parameters()),
            layer, tol=1e-10,
        )  # fmt: skip
    else:
        result = precond.minimize(
            lambda p: functional.softplus(-Y * (X @ p["w"] + p["b"])).mean() + p["w"] @ p["w"],
            {"w": torch.zeros(5, dtype=D), "b": torch.zeros((), dtype=D)}, tol=1e-10,
        )  # fmt: skip
    assert result.converged
    assert "regression" in result.method
    assert result.work.hvps <= 3 * result.iterations


def test_calls_are_counted_with_the_evaluation_that_watches():
    calls = []

    def fun(w):
        calls.append(1)
        return ASSEMBLED["logistic"][1](w)

    result = precond.minimize(fun, torch.zeros(5, dtype=D), tol=1e-10)
    assert len(calls) == result.work.gradients + result.work.losses + 1


def test_features_of_very_different_sizes():
    scales = torch.logspace(-6, 6, 5, dtype=D)
    a = X * scales

    def fun(w):
        return functional.softplus(-Y * (a @ w)).mean() + 1e-6 * ((scales * w) ** 2).sum()

    result = precond.minimize(fun, torch.zeros(5, dtype=D), tol=1e-8)
    assert result.converged
    assert result.work.hvps <= 60


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_weighted_gram_in_blocks(layout, monkeypatch):
    import precond.math.dense.weighted_gram as module

    monkeypatch.setattr(module, "BLOCK", 17 * 5 * 8)
    weights = torch.linspace(-1, 2, 200, dtype=D)
    a = X if layout == "dense" else SPARSE
    full = a if layout == "dense" else a.to_dense()
    torch.testing.assert_close(weighted_gram(a, weights), full.T @ (weights[:, None] * full))
    np.testing.assert_array_equal(weighted_gram(a, 0 * weights), np.zeros((5, 5)))
