"""The induced-metric optimizers against plain loops over all parameters at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, IncompatibleError
from precond.optim import InducedMetric, Muon
from precond.preconditioners.polar import Polar
from tests.papers.networks import assert_close, gradients, start


def losses(steps):
    return [2.0 / (1 + t) + 0.1 for t in range(steps)]


def reference(ws, stream, lr, momentum=0.9, xi=0.1, beta=0.8, weight_decay=0.0, base="sgd", embedding="loss"):
    ms, ns, e = [0.0] * len(ws), [0.0] * len(ws), 0.0
    for t, (gs, loss) in enumerate(zip(stream, losses(len(stream)), strict=True), start=1):
        trace, preconditioners = 0.0, []
        for i, g in enumerate(gs):
            ms[i] = momentum * ms[i] + (1 - momentum) * g
            ns[i] = 0.99 * ns[i] + 0.01 * g**2
            root = np.sqrt(ns[i] / (1 - 0.99**t)) + 1e-8 if base == "rms" else 1.0
            preconditioners.append(root)
            trace += np.sum(g**2 / root)
        e = beta * e + (1 - beta) * xi * trace
        corrected = e / (1 - beta**t)
        slope = {"loss": 1.0, "log": 1 / loss, "sqrt": 0.5 / np.sqrt(loss)}[embedding]
        scale = slope / (1 + slope**2 * corrected)
        for i, root in enumerate(preconditioners):
            update = ms[i] / (1 - momentum**t) / root
            ws[i] = (1 - lr * weight_decay) * ws[i] - lr * scale * update
    return ws


def train(stream, params, **settings):
    optimizer = InducedMetric(params, **settings)
    for given, loss in zip(stream, losses(len(stream)), strict=True):
        for param, gradient in zip(params, given, strict=True):
            param.grad = torch.tensor(gradient, dtype=param.dtype)
        optimizer.step(lambda loss=loss: torch.tensor(loss, dtype=torch.float64))
    return [param.detach().numpy().copy() for param in params]


@pytest.mark.parametrize("base", ["sgd", "rms"])
@pytest.mark.parametrize("embedding", ["loss", "log", "sqrt"])
@pytest.mark.parametrize("rest", [{}, {"momentum": 0.5, "xi": 1e-3, "beta": 0.5, "weight_decay": 0.2}])
def test_equals_a_plain_loop(base, embedding, rest):
    stream = gradients(15)
    ours = train(stream, start(), lr=0.1, base=base, embedding=embedding, **rest)
    theirs = reference(
        [w.detach().numpy().copy() for w in start()], stream, 0.1, base=base, embedding=embedding, **rest
    )
    assert_close(ours, theirs, 1e-10)


def test_groups_have_metrics_of_their_own():
    shapes = [(3, 2), (4,), (3, 2)]
    stream = gradients(6, shapes)
    params = start(shapes)
    optimizer = InducedMetric([{"params": params[:2]}, {"params": params[2:], "lr": 0.3}], lr=0.1)
    for given in stream:
        for param, gradient in zip(params, given, strict=True):
            param.grad = torch.tensor(gradient)
        optimizer.step()
    first = reference([w.detach().numpy().copy() for w in start(shapes)[:2]], [g[:2] for g in stream], 0.1)
    second = reference([w.detach().numpy().copy() for w in start(shapes)[2:]], [g[2:] for g in stream], 0.3)
    assert_close([p.detach().numpy() for p in params], [*first, *second], 1e-10)


def test_without_the_direction_of_the_loss_it_is_its_base():
    stream = gradients(10, [(4, 3), (4, 3)])
    ours = train(stream, start([(4, 3), (4, 3)]), lr=0.02, xi=0.0, base="muon", momentum=0.9)
    params = start([(4, 3), (4, 3)])
    optimizer = Muon(params, lr=0.02, momentum=0.9, nesterov=False)
    for given in stream:
        for param, gradient in zip(params, given, strict=True):
            param.grad = torch.tensor(gradient)
        optimizer.step()
    assert_close(ours, [p.detach().numpy() for p in params], 1e-6)  # the norms differ by the bias correction
    (g,) = gradients(1, [(4, 3)])[0]
    state = Polar(steps=0).init(torch.empty(1, 4, 3))
    product = float((torch.tensor(g) * Polar(steps=0, scale="none").apply(state, torch.tensor(g)[None])[0]).sum())
    assert product == pytest.approx(np.linalg.norm(g, "nuc"))


def test_headline_more_learning_rates_solve_rosenbrock():
    def reaches(lr, **settings):
        w = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        optimizer = InducedMetric([w], lr=lr, **settings)
        for _ in range(800):
            x, y = w.tolist()
            if max(abs(x), abs(y)) > 1e6:
                return False
            loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2
            if loss < 5e-2:
                return True
            w.grad = torch.tensor([2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2)], dtype=torch.float64)
            optimizer.step(lambda loss=loss: torch.tensor(loss))
        return False

    lrs = 10.0 ** np.arange(-3.0, 0.6, 0.5)
    plain = sum(reaches(lr, xi=0.0) for lr in lrs)
    assert plain >= 1
    assert sum(reaches(lr) for lr in lrs) > plain
    assert sum(reaches(lr, embedding="log") for lr in lrs) > plain


def test_refusals():
    w = torch.zeros(2, 2, requires_grad=True)
    with pytest.raises(BadInputError, match="sqrt"):
        InducedMetric([w], embedding="exp")
    with pytest.raises(BadInputError, match="muon"):
        InducedMetric([w], base="adam")
    optimizer = InducedMetric([w], embedding="log")
    w.grad = torch.ones_like(w)
    with pytest.raises(IncompatibleError, match="closure"):
        optimizer.step()
