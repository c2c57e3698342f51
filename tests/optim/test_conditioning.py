"""Weight conditioning: what it equals, what it improves, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from precond.core import BadInputError
from precond.optim import SOAP, Muon, WeightConditioning, weight_conditioning


def layer(cls=nn.Linear, *args, seed=0):
    torch.manual_seed(seed)
    return cls(*(args or (7, 5))).double()


@pytest.mark.parametrize("build", [lambda: layer(), lambda: layer(nn.Conv2d, 3, 4, 2)], ids=["linear", "convolution"])
def test_equals_weight_normalization_with_unit_gain(build):
    ours, theirs = weight_conditioning(build()), weight_norm(build())
    with torch.no_grad():
        theirs.parametrizations.weight.original0.fill_(1.0)
    x = torch.randn(6, 7).double() if isinstance(ours, nn.Linear) else torch.randn(2, 3, 5, 5).double()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)
    for net in (ours, theirs):
        net(x).square().sum().backward()
    gradient = ours.parametrizations.weight.original.grad
    torch.testing.assert_close(gradient, theirs.parametrizations.weight.original1.grad, rtol=0, atol=1e-10)
    along = (gradient * ours.parametrizations.weight.original).flatten(1).sum(1)
    assert along.abs().max() < 1e-10, "the gradient must be orthogonal to every row"


def test_with_a_detached_scale_the_gradient_is_scaled_alone():
    net = weight_conditioning(layer(), detach_scale=True)
    weight = net.parametrizations.weight.original
    x = torch.randn(6, 7).double()
    net(x).sum().backward()
    expected = x.sum(0).expand(5, 7) / weight.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_headline_it_conditions_weights_whose_rows_differ_in_size():
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 32), (256, 128)):
        gaussian = torch.randn(shape, generator=generator).double()
        scales = torch.exp(1.5 * torch.randn(shape[0], 1, generator=generator)).double()
        before, after = (torch.linalg.cond(w) for w in (scales * gaussian, WeightConditioning()(scales * gaussian)))
        assert after < before / 4
        torch.testing.assert_close(WeightConditioning()(scales * gaussian), WeightConditioning()(gaussian))
        assert 0.8 < torch.linalg.cond(WeightConditioning()(gaussian)) / torch.linalg.cond(gaussian) < 1.25


def test_rows_of_zeros_stay_zero_and_have_finite_gradients():
    net = layer()
    with torch.no_grad():
        net.weight[2] = 0.0
    weight_conditioning(net)
    assert torch.equal(net.weight[2], torch.zeros(7).double())
    net(torch.randn(3, 7).double()).sum().backward()
    assert net.parametrizations.weight.original.grad.isfinite().all()


def test_other_axes_and_removal():
    net = layer(nn.ConvTranspose1d, 3, 4, 2)
    given = net.weight.detach().clone()
    weight_conditioning(net, dim=1)
    torch.testing.assert_close(net.weight.norm(dim=(0, 2)), torch.ones(4).double())
    assert torch.equal(net.parametrizations.weight.original, given)
    parametrize.remove_parametrizations(net, "weight", leave_parametrized=False)
    assert torch.equal(net.weight, given)


@pytest.mark.parametrize("cls", [Muon, SOAP])
def test_matrix_methods_train_it(cls):
    torch.manual_seed(0)
    net = nn.Sequential(weight_conditioning(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(64, 6)
    y = torch.sin(x[:, :3])
    optimizer = cls(net.named_parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_refusals():
    with pytest.raises(BadInputError, match="kernel"):
        weight_conditioning(nn.Linear(2, 2), "kernel")
    norm = nn.LayerNorm(3)
    with pytest.raises(BadInputError, match="rows"):
        weight_conditioning(norm)
    assert not parametrize.is_parametrized(norm)
