"""Softmax regression as a declared loss: against the same function in plain torch, by every way of seeing it."""

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.nn import functional

import precond
from precond.core import BadInputError, IncompatibleError, Work
from precond.losses import Softmax
from precond.penalties import L1

M, N, K = 60, 5, 4


def data(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(M, N, generator=g, dtype=torch.float64) * (torch.rand(M, N, generator=g) < 0.7)
    return a.to(dtype), torch.randint(0, K, (M,), generator=g)


def plain(a, classes):
    def loss(x):
        return 0.3 * functional.cross_entropy(a @ x.view(N, K), classes, reduction="sum") + 0.005 * x.dot(x)

    return loss


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_gradient_and_hessian(sparse, dtype):
    a, classes = data(dtype)
    labels = np.array([-2, 5, 7, 30])[classes.numpy()]  # any numbers: their order makes the classes
    loss = Softmax(scipy.sparse.csr_array(a.numpy()) if sparse else a, labels, scale=0.3, ridge=0.01)
    reference = plain(a, classes)
    x = torch.randn(N * K, generator=torch.Generator().manual_seed(1), dtype=dtype)
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype is torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reference(leaf), leaf)
    hessian = torch.autograd.functional.hessian(reference, x)
    value, own = loss.value_and_gradient(x)
    torch.testing.assert_close(value, reference(x), **close)
    torch.testing.assert_close(loss(x), reference(x), **close)
    torch.testing.assert_close(own, gradient, **close)
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, x), hessian, **close)
    work = Work()
    operator = loss.hessian(x, work)
    torch.testing.assert_close(operator.matvec(torch.eye(N * K, dtype=dtype)), hessian, **close)
    torch.testing.assert_close(operator.assembled(coarse=True), hessian, **close)
    assert work.hvps == N * K
    values = torch.linalg.eigvalsh(hessian.double())
    assert operator.floor() <= float(values[0]) + 1e-6
    assert loss.lipschitz() >= float(values[-1])


def test_minimizers_agree_with_those_of_the_plain_function():
    a, classes = data()
    loss, x0 = Softmax(a, classes, scale=0.3, ridge=0.01), torch.zeros(N, K).double()
    found = precond.minimize(loss, x0, tol=1e-10)
    assert found.converged
    assert found.x.shape == (N, K)
    expected = precond.minimize(plain(a, classes), torch.zeros(N * K).double(), tol=1e-10)
    torch.testing.assert_close(found.x.reshape(-1), expected.x, rtol=1e-7, atol=1e-8)
    sparse = precond.minimize(loss, x0, penalty=L1(0.5), tol=1e-8)
    again = precond.minimize(plain(a, classes), torch.zeros(N * K).double(), penalty=L1(0.5), tol=1e-8)
    assert sparse.converged
    torch.testing.assert_close(sparse.x.reshape(-1), again.x, rtol=1e-6, atol=1e-7)
    assert 0 < int((sparse.x == 0).sum()) < N * K


def test_a_large_one_is_assembled_seldom_and_its_curvature_is_bounded():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(400, 64, generator=g, dtype=torch.float64)
    classes = (a[:, :6] + torch.randn(400, 6, generator=g, dtype=torch.float64)).argmax(1)
    loss = Softmax(a, classes, ridge=0.01)
    assert loss.objective().assembly == 384 // 24
    found = precond.minimize(loss, torch.zeros(384).double(), tol=1e-10)
    assert found.converged
    assert found.method.startswith("newton-cholesky")
    assert found.work.refreshes <= 1 + found.work.hvps / 16
    assert found.certificate.extra["smallest curvature"] == 0.01


def test_what_it_refuses():
    a, classes = data()
    with pytest.raises(BadInputError, match="give one for each row"):
        Softmax(a, classes[:-1])
    with pytest.raises(BadInputError, match="b is empty"):
        Softmax(a[:0], classes[:0])
    with pytest.raises(BadInputError, match="ridge not negative"):
        Softmax(a, classes, ridge=-1.0)
    with pytest.raises(IncompatibleError, match="compiled rounds need a linear model"):
        precond.minimize(Softmax(a, classes), torch.zeros(20).double(), penalty=L1(0.1), method="coordinate-descent")


def test_one_class_alone_is_a_constant_and_its_ridge():
    a, _ = data()
    found = precond.minimize(Softmax(a, np.ones(M), ridge=0.1), torch.ones(N).double())
    assert found.converged
    torch.testing.assert_close(found.x, torch.zeros(N).double())
