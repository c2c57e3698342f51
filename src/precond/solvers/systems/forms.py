"""Vectors in the form that users hold them: read as rows of a batch, given back as they came."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError
from precond.operators.checks import all_finite, as_tensor

_float_of = {torch.float32: torch.float32, torch.complex64: torch.complex64, torch.complex128: torch.complex128}


@dataclasses.dataclass(frozen=True)
class Form:
    """How vectors were given.

    Attributes:
        numpy: As a NumPy array (or a list), not as a tensor.
        vector: As one vector ``[n]``, not as columns ``[n, k]``.
    """

    numpy: bool
    vector: bool

    def restore(self, rows: Tensor) -> Any:
        """Return rows ``[k, n]`` as they were given: ``[n]`` or ``[n, k]``, NumPy or torch."""
        value = rows[0] if self.vector else rows.mT.contiguous()
        return value.cpu().numpy() if self.numpy else value


def read_vectors(value: Any, what: str) -> tuple[Tensor, Form]:
    """Return vectors as rows ``[k, n]`` with their form; integers become float64.

    Args:
        value: A tensor, array or list of shape ``[n]``, or ``[n, k]`` for ``k`` vectors as columns.
        what: Its name in messages.

    Returns:
        The rows, in float32, float64 or their complex types, and the form to give solutions back in.

    Raises:
        BadInputError: It has another number of dimensions, is empty, not numeric, or has an entry that is not finite.
    """
    numpy = not isinstance(value, Tensor)
    if hasattr(value, "toarray") or (isinstance(value, Tensor) and value.layout != torch.strided):
        raise BadInputError(f"{what} is sparse: give it dense, for example {what}.toarray() or {what}.to_dense()")
    tensor = as_tensor(value, what) if numpy else value.detach()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        raise BadInputError(f"{what} is in {tensor.dtype}: convert with .float() or .double()")
    tensor = tensor.to(_float_of.get(tensor.dtype, torch.float64))
    if tensor.ndim not in (1, 2):
        raise BadInputError(f"{what} has shape {tuple(tensor.shape)}: give one vector [n] or columns [n, k]")
    if tensor.numel() == 0:
        raise BadInputError(f"{what} is empty (shape {tuple(tensor.shape)}): give at least one number")
    if not all_finite(tensor):
        place = [int(i) for i in torch.nonzero(~torch.isfinite(tensor))[0]]
        raise BadInputError(
            f"{what} has an entry that is not finite: {what}{place} = {tensor[tuple(place)].item()}; "
            "remove it or replace it before solving"
        )
    vector = tensor.ndim == 1
    rows = tensor.unsqueeze(0) if vector else tensor.mT
    return rows.contiguous(), Form(numpy, vector)
