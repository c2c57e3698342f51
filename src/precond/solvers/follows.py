"""Whether a function that was given an array to start from is one of torch operations after all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.solvers.check_derivatives import RIGHT, compare

logger = logging.getLogger(__name__)


def follows_torch(function: Callable[[Tensor], Any], x: Tensor) -> bool:
    """Whether a function of a tensor returns a tensor that autograd differentiates with respect to all of ``x``.

    Functions that leave torch for a part of their value, as by ``float(x[0])`` or ``math.exp``, keep a graph that lacks
    that part. They are found by the slope of a random combination of their values along a random direction.

    Args:
        function: The function.
        x: Where it is tried, ``[n]``.

    Returns:
        Whether it is one of torch operations.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaf = x.detach().clone().requires_grad_()
            with torch.enable_grad():
                value = function(leaf)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return False
            if not value.requires_grad or not x.numel() or not bool(torch.isfinite(value).all()):
                return value.requires_grad or not x.numel()  # what is not finite is reported where it is evaluated
            weights = torch.randn(value.numel(), generator=generator, dtype=torch.float64).to(value)
            along = torch.randn(x.numel(), generator=generator, dtype=torch.float64).to(x)
            along *= max(1.0, float(x.norm())) / float(along.norm())
            (gradient,) = torch.autograd.grad(value.reshape(-1) @ weights, leaf)

            def combined(t: Tensor) -> Tensor:
                with torch.no_grad():
                    return (function(x + t * along).reshape(-1) @ weights)[None].to(x)

            found = compare(combined, (gradient @ along).reshape(1, 1), x.new_zeros(1))
            return found is None or not found.error > 100 * RIGHT
    except Exception as error:  # NumPy functions refuse tensors that require gradients in any way
        logger.debug("not a torch function: %s", error)
        return False
