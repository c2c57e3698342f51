"""An order in which each matrix comes after one like it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError
from precond.math.sparse.ordering import nearest_neighbours
from precond.operators import as_operator


def near_one_another(matrices: Iterable[Any]) -> list[int]:
    """Return an order in which each matrix comes after one like it; matrices of one size come together.

    Their distances are near those of a random projection of their entries.
    """
    groups: dict[int, list[tuple[int, Tensor]]] = {}
    for index, A in enumerate(matrices):
        operator = as_operator(A)
        matrix = operator.entries()
        if matrix is None:
            raise BadInputError("matrices known by products cannot be compared: give parameters=, or sort=False")
        generator = torch.Generator().manual_seed(0)
        probes = torch.randn(8, operator.shape[1], generator=generator, dtype=torch.float64).numpy()
        image = torch.from_numpy(matrix @ probes.T)
        flat = torch.view_as_real(image.to(torch.complex128)).flatten()
        groups.setdefault(len(flat), []).append((index, flat))
    order: list[int] = []
    for group in groups.values():
        places = nearest_neighbours(torch.stack([flat for _, flat in group])) if len(group) > 2 else range(len(group))
        order += [group[place][0] for place in places]
    return order
