"""Functions that see a vector through one constant matrix: found by watching the products that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from precond.losses.features import Features
from precond.operators.hessian import or_zero
from precond.solvers.smooth.affine_evaluation import Places, Seen, Split, close

_PRODUCTS = {
    torch.matmul, torch.mv, torch.mm, torch.Tensor.matmul, torch.Tensor.mv, torch.Tensor.mm, torch.Tensor.__matmul__,
    torch.sparse.mm,
}  # fmt: skip


class _Watching(TorchFunctionMode):
    """Hands out products of a constant matrix with variables as leaves of their own.

    Args:
        leaf: The variables, ``[n]``.
        known: The matrix and the places of the point before, if there was one.
    """

    def __init__(self, leaf: Tensor, known: Seen | None) -> None:
        super().__init__()
        self.leaf, self.known = leaf, known
        self.found: list[tuple[Features, Places, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace a product with the variables; pass everything else on."""
        if torch.is_grad_enabled():
            if func in _PRODUCTS and len(args) == 2 and not kwargs:
                if self._takes(*args):
                    return self._product(*args)
                if isinstance(args[0], Tensor) and args[0].ndim == 1 and self._takes(_transposed(args[1]), args[0]):
                    return self._product(_transposed(args[1]), args[0])
                return func(*args)
            if func is functional.linear and isinstance(args[1], Tensor) and self._takes(args[0], args[1].mT):
                bias = args[2] if len(args) > 2 else (kwargs or {}).get("bias")
                z = self._product(args[0], args[1].mT)
                return z if bias is None else z + bias
        return func(*args, **(kwargs or {}))

    def _takes(self, a: Any, w: Any) -> bool:
        return (
            isinstance(a, Tensor)
            and isinstance(w, Tensor)
            and a.ndim == 2
            and not a.requires_grad
            and a.layout in (torch.strided, torch.sparse_csr)
            and w.requires_grad
            and w.ndim in (1, 2)
            and (w is self.leaf or (w.grad_fn is not None and w._base is self.leaf))
            and a.dtype == w.dtype
        )

    def _product(self, a: Tensor, w: Tensor) -> Tensor:
        view = (tuple(w.shape), w.stride(), int(w.storage_offset() - self.leaf.storage_offset()))
        for matrix, where, known in self.found:
            if _same(matrix.matrix, a) and where.view == view:
                return known.clone()
        features: Features | None = None
        places: Places | None = None
        if self.known is not None:
            features, places = self.known
        features = features if features is not None and _same(features.matrix, a) else Features(a)
        places = places if places is not None and places.view == view else Places.of(view, self.leaf)
        z = features.forward(w.detach()).requires_grad_()
        self.found.append((features, places, z))
        return z.clone()


def _transposed(a: Any) -> Any:
    return a.mT if isinstance(a, Tensor) and a.ndim == 2 and a.layout is torch.strided else None


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in the same place."""
    if a is b:
        return True
    dense = a.layout is torch.strided and b.layout is torch.strided
    return dense and a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def split(evaluate: Callable[[Tensor], Tensor], x: Tensor, known: Seen | None) -> Split | None:
    """Evaluate a function and its gradient at ``x`` as ``F(A w, x)``.

    Args:
        evaluate: Maps ``[n]`` to the value, 0-d, with its graph.
        x: The point, ``[n]``.
        known: The matrix and the places of the point before, if there was one.

    Returns:
        The evaluation, or ``None`` where the function multiplies no constant matrix with its variables, or several.
    """
    leaf = x.detach().clone().requires_grad_()
    watching = _Watching(leaf, known)
    with torch.enable_grad():
        with watching:
            loss = evaluate(leaf)
        if len(watching.found) != 1 or not loss.requires_grad:
            return None
        features, places, z = watching.found[0]
        by_x, by_z = torch.autograd.grad(loss, (leaf, z), create_graph=True, allow_unused=True)
    return Split(features, places, leaf, z, loss.detach(), or_zero(by_x, leaf), or_zero(by_z, z))


def agrees(found: Split, loss: Tensor, gradient: Tensor) -> bool:
    """Whether a split evaluation has the value and the gradient of the plain one, and its Hessian can be assembled."""
    return close(found.loss, loss) and close(found.gradient(), gradient) and found.bend() is not None
