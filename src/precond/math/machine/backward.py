"""Passes backward through a graph that stays, from given cotangents, one or many at once.

``torch.autograd.grad`` says the same with ``grad_outputs``, but imports its symbolic shapes first, and SymPy with them,
which takes up to a second where a whole minimization takes a hundredth of one. The engine below it is called directly
where this version of torch has it at its place, and ``torch.autograd.grad`` elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_Engine = Callable[..., Any]

LARGE, FIRST = 2**20, 1000
"""Numbers of all cotangents, times those of the leaf, from which on products of matrices are looked for, and among how
many operations."""
_PRODUCTS = ("Mv", "Mm", "Bmm", "Addmv", "Addmm", "Addbmm", "Baddbmm", "Linear")


def pull(output: Tensor, leaf: Tensor, v: Tensor) -> Tensor | None:
    """Return ``J' v`` of the graph from ``leaf`` to ``output``, which is kept.

    Args:
        output: What was computed, of any shape.
        leaf: What it was computed from.
        v: A cotangent, of the shape of ``output``.

    Returns:
        Of the shape of ``leaf``; ``None`` where ``output`` does not depend on it.
    """
    if _found is None:
        return torch.autograd.grad(output, leaf, v, retain_graph=True, allow_unused=True)[0]
    found: Tensor | None = _found[0]((output,), (v,), True, False, (leaf,), allow_unreachable=True)[0]
    return found


def pull_many(output: Tensor, leaf: Tensor, v: Tensor) -> Tensor | None:
    """Return ``J' v_i`` of the graph from ``leaf`` to ``output`` for each row of ``v``, in one pass.

    Args:
        output: What was computed, of any shape.
        leaf: What it was computed from.
        v: Cotangents ``[k, ...]``, each of the shape of ``output``.

    Returns:
        Shape ``[k, ...]``, each of the shape of ``leaf``; ``None`` where ``output`` does not depend on it.

    Raises:
        RuntimeError: An operation on the way has no rule for batches.
    """
    large = v.numel() * leaf.numel() >= LARGE and _multiplies(output)
    with _shared() if large else contextlib.nullcontext():
        if _found is None:
            return torch.autograd.grad(output, leaf, v, retain_graph=True, allow_unused=True, is_grads_batched=True)[0]
        back, batched = _found

        def one(row: Tensor) -> Any:
            return back((output,), (row,), True, False, (leaf,), allow_unreachable=True)

        found: Tensor | None = batched(one, 0, 0, allow_none_pass_through=True)(v)[0]
        return found


def _multiplies(output: Tensor) -> bool:
    """Whether products of matrices are among the first operations on the way back."""
    seen, ahead = set[Any](), [output.grad_fn]
    while ahead and len(seen) < FIRST:
        node = ahead.pop()
        if node is not None and node not in seen:
            if node.name().startswith(_PRODUCTS):
                return True
            seen.add(node)
            ahead.extend(following for following, _ in node.next_functions)
    return False


def _shared() -> contextlib.AbstractContextManager[object]:
    """Return what takes products of one matrix with many vectors together, where this version of torch lets it."""
    try:
        from precond.math.machine.together import Together
    except ImportError:
        return contextlib.nullcontext()
    return Together()


def _look() -> tuple[_Engine, _Engine] | None:
    """Return the engine and what maps it over a batch, where both do what they are known to do."""
    try:
        from torch._vmap_internals import _vmap
        from torch.autograd.graph import _engine_run_backward

        leaf = torch.ones(2, requires_grad=True)
        (one,) = _engine_run_backward((2 * leaf,), (leaf.detach(),), True, False, (leaf,), allow_unreachable=True)
        return (_engine_run_backward, _vmap) if one.tolist() == [2.0, 2.0] else None
    except (ImportError, TypeError, RuntimeError):
        return None


_found = _look()
