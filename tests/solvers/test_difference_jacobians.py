"""Jacobians by differences: what they cost, how exact they are, and when which are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import precond
from precond.solvers.squares.difference_jacobians import FOURTH, DifferenceJacobian


class Counted:
    """A residual that counts its calls, with its true Jacobian."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.stack([x[0].exp() - 2 + 1e-4 * x[1], (x[0] * x[1]).sin(), x[1].square() / 3 - x[0]])

    def true(self, x: Tensor) -> Tensor:
        jacobian = torch.func.jacrev(self.__call__)(x)
        assert isinstance(jacobian, Tensor)
        return jacobian


def _worst(found: Tensor, true: Tensor) -> float:
    return float(((found - true).norm(dim=0) / true.norm(dim=0)).max())


def test_beside_a_point_of_fourth_order_as_few_residuals_are_nearly_as_exact():
    f, x = Counted(), torch.tensor([0.7, 1.3]).double()
    differences = DifferenceJacobian()
    differences._fourth(f, x, f(x))
    differences._residual = f
    assert differences._base is not None
    assert _worst(differences._base.jacobian, f.true(x)) < FOURTH
    for moved, bound in ((1e-7, FOURTH), (1e-5, 1e-8), (1e-4, 1e-7)):
        y = x + moved * torch.tensor([1.0, -1.0]).double()
        true, r = f.true(y), f(y)
        before = f.calls
        assert _worst(differences.at(f, y, r), true) < bound
        assert f.calls == before + 2
        assert differences.finest == (moved < 1e-6)


def test_what_was_learned_of_one_function_is_not_carried_to_another():
    f, x = Counted(), torch.tensor([0.7, 1.3]).double()
    differences = DifferenceJacobian()
    differences._fourth(f, x, f(x))
    differences._residual = f

    def other(y: Tensor) -> Tensor:
        return f(y) + y.sum() ** 3

    found = differences.at(other, x, other(x))
    jacobian = torch.func.jacrev(other)(x)
    assert isinstance(jacobian, Tensor)
    assert _worst(found, jacobian) < 1e-6


def test_a_variable_next_to_zero_is_moved_as_far_as_its_influence_asks_for():
    x = torch.tensor([1e-12, 1.0]).double()
    calls: list[Tensor] = []

    def residual(y: Tensor) -> Tensor:
        calls.append(y)
        return torch.stack([5 + y[0] + y[1], 1 - y[0].sin() * 3, y[1].exp()])

    jacobian = torch.func.jacrev(residual)(x)
    assert isinstance(jacobian, Tensor)
    rough = DifferenceJacobian()
    found = rough.at(residual, x, residual(x))
    assert _worst(found, jacobian) < 1e-6
    before = len(calls)
    rough.at(residual, x, residual(x))
    assert len(calls) == before + 3, "what showed the variable's influence is remembered"
    exact = DifferenceJacobian(exact=True)
    assert _worst(exact.at(residual, x, residual(x)), jacobian) < FOURTH


def _trigonometric(x: Tensor | np.ndarray) -> Tensor:
    """The trigonometric function of More, Garbow and Hillstrom: terms of size ten cancel in residuals of 1e-3."""
    x = torch.as_tensor(x)
    i = torch.arange(1, len(x) + 1, dtype=x.dtype)
    return len(x) - x.cos().sum() + i * (1 - x.cos()) - x.sin()


@pytest.mark.parametrize(("written", "most"), [(True, 30), (False, 400)])
def test_losses_that_cancelling_terms_blur_do_not_end_a_fit(written, most):
    calls = []

    def residual(x):
        calls.append(x)
        return _trigonometric(x).numpy()

    jac = (lambda x: torch.func.jacrev(_trigonometric)(torch.as_tensor(x)).numpy()) if written else None
    result = precond.least_squares(residual, np.full(10, 0.1), jac=jac)
    assert result.converged
    assert " after " not in result.method
    assert len(calls) <= most
    assert float(result.certificate.extra["loss"]) == pytest.approx(1.3975281e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "start", "most"),
    [
        (lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), [-12.0, 10.0], 20),
        (lambda x: np.array([-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1],
                             -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]]), [0.5, -2.0], 52),
        (lambda x: (lambda t, y: x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - y)(
            (8 - np.arange(1, 16)) / 2,
            np.array([9, 44, 175, 540, 1295, 2420, 3521, 3989, 3521, 2420, 1295, 540, 175, 44, 9]) / 1e4,
        ), [0.4, 1.0, 0.0], 50),
    ],
    ids=["no residual left", "a large residual", "a variable that vanishes"],
)  # fmt: skip
def test_residuals_that_fits_by_differences_take(function, start, most):
    calls = []

    def residual(x):
        calls.append(x)
        return function(x)

    assert precond.least_squares(residual, np.array(start)).converged
    assert len(calls) <= most
