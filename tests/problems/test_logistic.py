import numpy as np
import pytest
import scipy.sparse
import torch

from precond.problems import load, logistic
from precond.problems.sparse_product import constant_matrix

CPU = torch.device("cpu")


def libsvm(labels, features):
    """Write dense features sparsely, as text."""
    lines = []
    for label, row in zip(labels, features, strict=True):
        entries = " ".join(f"{j + 1}:{float(value)!r}" for j, value in enumerate(row) if value != 0)
        lines.append(f"{label} {entries}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    features = random.standard_normal((80, 12)) * (random.random((80, 12)) < 0.1)
    features[0, -1] = 1.0
    return features, features @ random.standard_normal(12) + 0.3 * random.standard_normal(80) > 0


def newton(instance, steps):
    x = instance.x0
    for _ in range(steps):
        gradient = torch.func.grad(instance.fun)(x)
        hessian = torch.func.jacrev(torch.func.grad(instance.fun))(x)
        x = x - torch.linalg.solve(hessian, gradient)
    return x, instance.measure(x, 0.0, torch.func.grad(instance.fun)(x))


def test_newton_meets_the_target_from_every_start():
    problem = logistic()
    for seed in range(3):
        instance = problem.build(seed, CPU)
        assert instance.measure(instance.x0, 0.0, torch.func.grad(instance.fun)(instance.x0)) == pytest.approx(1.0)
        assert newton(instance, 12)[1] <= problem.target


def test_a_seed_decides_the_start():
    problem = logistic()
    assert torch.equal(problem.build(1, CPU).x0, problem.build(1, CPU).x0)
    assert not torch.equal(problem.build(1, CPU).x0, problem.build(2, CPU).x0)


@pytest.mark.parametrize("labels", [(-1, 1), (0, 1), (1, 2), ("-1", "+1")])
@pytest.mark.parametrize("name", ["data", "data.gz"])
def test_a_file_gives_the_objective_of_the_formula(write, data, labels, name):
    features, positive = data
    path = write(name, "# a comment\n" + libsvm([labels[int(p)] for p in positive], features))
    instance = load(f"logistic:{path}").build(0, CPU)
    w = np.random.default_rng(1).standard_normal(13)
    with_constant = np.hstack([features, np.ones((80, 1))])
    margins = np.where(positive, 1.0, -1.0) * (with_constant @ w)
    value = np.mean(np.log1p(np.exp(-margins))) + w @ w / 160
    slope = -np.where(positive, 1.0, -1.0) / (1 + np.exp(margins))
    point = torch.from_numpy(w).requires_grad_()
    loss = instance.fun(point)
    (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
    assert loss.item() == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(gradient.detach(), with_constant.T @ slope / 80 + w / 80, rtol=1e-12, atol=1e-15)
    v = torch.randn(13, dtype=torch.float64)
    (product,) = torch.autograd.grad(gradient, point, v)
    weights = 1 / (2 + np.exp(margins) + np.exp(-margins))
    expected = with_constant.T @ (weights * (with_constant @ v.numpy())) / 80 + v.numpy() / 80
    np.testing.assert_allclose(product, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_the_sparse_product_has_every_derivative(density):
    dense = scipy.sparse.random_array((7, 5), density=density, rng=np.random.default_rng(0), format="csr")
    a, reference = constant_matrix(dense, CPU), torch.from_numpy(dense.toarray())
    assert (a.matrix.layout == torch.strided) == (density > 0.2)
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: a @ x, x)
    assert torch.autograd.gradgradcheck(lambda x: (a @ x).sin(), x)
    assert torch.autograd.gradcheck(lambda x: a @ x, x, check_forward_ad=True)
    several = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(lambda x: a @ x)(several), several @ reference.T)
    hessian = torch.func.hessian(lambda x: (a @ x).pow(4).sum())(several[0])
    expected = reference.T @ torch.diag(12 * (reference @ several[0]) ** 2) @ reference
    torch.testing.assert_close(hessian, expected)


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("1 1:2\n-1 1:x\n", 2, "'x' is not a number (the value of feature 1)"),
        ("1 1:2\n-1 1:nan\n", 2, "nan is not finite"),
        ("1 1:2\nyes 1:3\n", 2, "'yes' is not a number (the label)"),
        ("1 1:2\n\n-1 12\n", 3, "'12' is not index:value"),
        ("1 1:2\n-1 -4:1\n", 2, "'-4:1' is not index:value"),
        ("1 1:2\n-1 3:1 2:1\n", 2, "index 2 after 3; sort"),
        ("1 1:2\n-1 99999999999:1\n", 2, "index 99999999999 is out of range"),
        ("1 1:2\n1 1:3\n", None, "one class only (label 1)"),
        ("# top\n1 1:2\n2 1:3\n1 1:4\n3 1:5\n", 5, "more than two classes (1, 2, 3)"),
        ("# nothing but a comment\n", None, "no samples"),
        ("1\n-1\n", None, "no features"),
        (b"1 1:2\n\x00\x01\x02", 2, "zero byte"),
        (b"1 1:2\n\xff\xfe\n", 2, "is not a number"),
        ("1,2 1:2\n", 1, "'1,2' is not a number (the label)"),
    ],
)
def test_a_damaged_file_is_explained_with_its_line(write, refused, content, line, says):
    path = write("bad", content)
    message = refused(f"logistic:{path}")
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: "), message
    assert says in message
    assert "; " in message
