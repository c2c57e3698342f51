"""Preconditioning of the weights themselves, inside the model, whatever optimizer trains them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from precond.core import BadInputError


class WeightConditioning(nn.Module):
    """Parametrization that divides every row of a weight by its Euclidean norm: a layer computes ``phi(E W x + b)``.

    ``E = diag(1 / ||W_i||_2)`` equilibrates the rows, the best diagonal scaling of a matrix up to a factor of the root
    of their number (van der Sluis, Numer. Math. 14, 1969); a smaller condition number of the weights makes that of the
    loss's Hessian smaller. With the scale differentiated, gradients are orthogonal to their rows, and weight decay
    changes nothing but the size of later steps. The kernels of convolutions are flattened to ``(out, -1)``.

    Source: Saratchandran, Wang, Lucey, "Weight Conditioning for Smooth Optimization of Neural Networks", ECCV 2024,
    arXiv 2409.03424.

    Deviations:
        1. Whether the paper differentiates the scale is not said there; ``detach_scale`` chooses.

    Args:
        dim: Axis of the output units; 1 for transposed convolutions.
        eps: Least norm to divide by; rows of zeros stay zero.
        detach_scale: Take ``E`` for a constant in the backward pass.
    """

    def __init__(self, dim: int = 0, eps: float = 1e-8, detach_scale: bool = False) -> None:
        super().__init__()
        self.dim, self.eps, self.detach_scale = dim, eps, detach_scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with rows of norm one.

        Args:
            weight: Shape ``[out, in, ...]`` for ``dim = 0``.

        Returns:
            The shape of ``weight``.

        Raises:
            BadInputError: If the weight has fewer than two axes.
        """
        if weight.ndim < 2:
            raise BadInputError(f"a weight of shape {tuple(weight.shape)} has no rows to equilibrate; leave it alone")
        others = [axis for axis in range(weight.ndim) if axis != self.dim % weight.ndim]
        # The root of a sum of squares has no derivative at zero, where the norm is replaced anyway.
        squares = weight.square().sum(others, keepdim=True)
        norms = torch.where(squares > self.eps**2, squares, 1.0).sqrt()
        norms = torch.where(squares > self.eps**2, norms, self.eps)
        return weight / (norms.detach() if self.detach_scale else norms)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the weight itself, so that it is kept as it was given, scales included."""
        return weight


def weight_conditioning(
    module: nn.Module, name: str = "weight", *, dim: int = 0, eps: float = 1e-8, detach_scale: bool = False
) -> nn.Module:
    """Condition one weight of a layer, in place, by `WeightConditioning`.

    `torch.nn.utils.parametrize.remove_parametrizations` takes it away again.

    Args:
        module: The layer, such as `torch.nn.Linear`.
        name: The name of its weight.
        dim: Axis of the output units; 1 for transposed convolutions.
        eps: Least norm to divide by.
        detach_scale: Take the scale for a constant in the backward pass.

    Returns:
        The layer.

    Raises:
        BadInputError: If the layer has no such weight, or the weight fewer than two axes.
    """
    if not isinstance(getattr(module, name, None), Tensor):
        raise BadInputError(f"{type(module).__name__} has no weight {name!r}; give the name of one of its parameters")
    conditioning = WeightConditioning(dim, eps, detach_scale)
    conditioning(getattr(module, name).detach())  # refuses before anything is changed
    parametrize.register_parametrization(module, name, conditioning)
    return module
