"""Hessians known by their products alone: by double backward, or by differences of gradients."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import IncompatibleError, Operator, OperatorTraits, Work
from precond.math.machine.backward import pull, pull_many

logger = logging.getLogger(__name__)

MEMORY = 2**28
"""Bytes that the intermediates of several products at once may take."""

CACHE = 2**20
"""Bytes of intermediates in the time that it takes to call one product."""

CHUNK = 64
"""Products that are taken at once at most."""


class Hessian(Operator):
    """A symmetric operator of shape ``[n, n]`` whose product with one vector is a function; counts every product.

    Args:
        product: Maps one vector ``[n]`` to ``[n]``.
        like: A vector ``[n]`` that tells length, dtype and device.
        work: The account that ``hvps`` are charged to.
        products: Maps a batch ``[k, n]`` at once, if there is a way; given up for ``product`` once it raises.
        assemble: Returns the matrix ``[n, n]`` by other means than products, or ``None``; its argument says whether
            single precision will do.
        approximate: Returns a random matrix near this one, ``[n, n]``, for size and seed of a sketch, or ``None``.
        memory: Returns the bytes that one product of a batch writes, which tells its price and how many are taken at
            once; ``None`` if it costs as much as one product. Asked for before the first batch.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        like: Tensor,
        work: Work,
        products: Callable[[Tensor], Tensor] | None = None,
        assemble: Callable[[bool], Tensor | None] | None = None,
        approximate: Callable[[int, int], Tensor | None] | None = None,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.shape = (like.numel(), like.numel())
        self.dtype = like.dtype
        self.device = like.device
        self.traits = OperatorTraits(symmetric=True)
        self._product = product
        self._work = work
        self._products = products
        self._assemble = assemble
        self._approximate = approximate
        self._footprint = memory

    @functools.cached_property
    def _memory(self) -> int:
        return 0 if self._footprint is None else self._footprint()

    @property
    def _chunk(self) -> int:
        """Vectors that are taken at once."""
        return max(1, min(CHUNK, MEMORY // max(1, self._memory)))

    def approximated(self, size: int, seed: int) -> Tensor | None:
        """Return a random matrix near this one where the objective knows the data that it is made of."""
        return None if self._approximate is None else self._approximate(size, seed)

    def assembled(self, *, coarse: bool = False) -> Tensor | None:
        """Return the matrix where the objective knows a way to it that takes no products."""
        return None if self._assemble is None else self._assemble(coarse)

    def price(self, count: int) -> int:
        """Return how many products one by one take as long as ``count`` at once: two calls a chunk, and the memory."""
        if self._products is None or self._footprint is None:
            return count
        return min(count, math.ceil(count * (2 / self._chunk + self._memory / CACHE)) + 1)

    def matvec(self, x: Tensor) -> Tensor:
        """Return the Hessian's product with each row of ``x``, and count one product for each."""
        self._work.hvps += x.shape[0]
        if x.shape[0] == 1:
            return self._product(x[0])[None]
        if self._products is not None and len(x):
            try:
                if len(x) <= self._chunk:
                    return self._products(x)
                return torch.cat([self._products(part) for part in torch.split(x, self._chunk)])
            except RuntimeError as error:  # some operations have no batching rule
                logger.info("Hessian products are taken one by one: %s", error)
                self._products = None
        return torch.stack([self._product(row) for row in x]) if x.shape[0] else x.clone()


def autograd_hessian(leaf: Tensor, gradient: Tensor, work: Work, memory: Callable[[], int] | None = None) -> Hessian:
    """Return the Hessian whose products differentiate a gradient that kept its graph; the graph serves every product.

    Args:
        leaf: The point, ``[n]``, a leaf of the graph.
        gradient: The gradient at ``leaf``, ``[n]``, with its graph (``create_graph=True``).
        work: The account to charge.
        memory: Returns the bytes that a product writes, where that is known; found out otherwise.

    Returns:
        The operator.
    """
    if not gradient.requires_grad:  # a linear function: its gradient does not depend on the point
        return Hessian(torch.zeros_like, leaf, work)

    def product(v: Tensor) -> Tensor:
        return or_zero(pull(gradient, leaf, v), v)

    def products(v: Tensor) -> Tensor:
        return or_zero(pull_many(gradient, leaf, v), v)

    return Hessian(product, leaf.detach(), work, products, memory=memory or functools.partial(footprint, gradient))


def or_zero(found: Tensor | None, like: Tensor) -> Tensor:
    """Return a derivative, zeros where there is none, or where torch has zeros without memory for it (of signs)."""
    return torch.zeros_like(like) if found is None or found._is_zerotensor() else found


def along(gradient: Tensor, v: Tensor) -> Tensor:
    """Return ``<gradient, v>``, 0-d.

    Differentiating it gives autograd the seed ``v``; handing over ``grad_outputs`` instead would make torch
    import its symbolic shapes at the first call, which takes a second.
    """
    return torch.dot(gradient, v) if gradient.ndim == 1 else torch.dot(gradient.reshape(-1), v.reshape(-1))


def footprint(gradient: Tensor) -> int:
    """Return roughly the bytes that one more pass backward through a graph writes: those of all its intermediates."""
    seen, stack, total = set(), [gradient.grad_fn], 0
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for like in getattr(node, "_input_metadata", ()):
            shape = getattr(like, "shape", ())
            total += math.prod(int(side) for side in shape) * gradient.element_size()
        stack.extend(parent for parent, _ in node.next_functions)
    return total


def check_twice_differentiable(gradient: Tensor) -> None:
    """Refuse a gradient whose graph holds a function that is differentiable only once.

    Autograd raises there only if the faulty node lies on the way to the point; otherwise products would lack its part.

    Args:
        gradient: The gradient with its graph, made with a ``grad_outputs`` that requires a gradient.

    Raises:
        IncompatibleError: There is such a function.
    """
    seen, stack = set(), [gradient.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if node.name() in ("torch::autograd::Error", "NotImplemented"):
            raise IncompatibleError(
                "fun holds a function that is differentiable only once, so there are no Hessian products: "
                "use method='lbfgs', or torch operations that are differentiable twice"
            )
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)


def difference_hessian(
    gradient_at: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor, work: Work, increment: float | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> Hessian:  # fmt: skip
    """Return the Hessian by forward differences, ``(g(x + h v) - g(x)) / h``; each product costs a gradient.

    The increment is ``h = 2 sqrt(eps) sum_i |v_i| (1 + |x_i|) / ||v||^2``, relative to the variables that ``v`` moves
    (P. N. Brown, Y. Saad, *Hybrid Krylov methods for nonlinear systems of equations*, 1990, section 4.1).

    Args:
        gradient_at: Maps a point ``[n]`` to its gradient ``[n]``.
        x: The point, ``[n]``.
        gradient: The gradient at ``x``, ``[n]``.
        work: The account that ``hvps`` are charged to; ``gradient_at`` charges its own gradients.
        increment: Relative increment in place of ``2 sqrt(eps)``, for gradients with more noise than rounding.
        bounds: Least and largest entries of points, ``[n]`` each: where ``x + h v`` leaves them ``x - h v`` is used.

    Returns:
        The operator.
    """
    scale = (2 * torch.finfo(x.dtype).eps ** 0.5 if increment is None else increment) * (1 + x.abs())

    def product(v: Tensor) -> Tensor:
        norm = v.norm()
        if not norm > 0:
            return torch.zeros_like(v)
        h = scale @ (v.abs() / norm) / norm
        if bounds is not None and not _within(x + h * v, bounds) and _within(x - h * v, bounds):
            h = -h
        return (gradient_at(x + h * v) - gradient) / h

    return Hessian(product, x, work)


def _within(x: Tensor, bounds: tuple[Tensor, Tensor]) -> bool:
    return bool(((x >= bounds[0]) & (x <= bounds[1])).all())
