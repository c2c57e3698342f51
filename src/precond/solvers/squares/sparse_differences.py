"""Sparse Jacobians by central differences, where users say which entries there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError
from precond.math.sparse.patterns import Pattern


def sparse_differences(
    pattern: Any, function: Callable[[Tensor], Tensor], shape: tuple[int, int]
) -> Callable[[Tensor], scipy.sparse.csr_array]:
    """Return the Jacobian of a function as a function, by two evaluations for each color of its columns.

    Args:
        pattern: Zero where the Jacobian is, ``[m, n]``, dense or sparse.
        function: Maps ``[n]`` to ``[m]``.
        shape: ``(m, n)``.

    Returns:
        A function that maps ``[n]`` to ``[m, n]``, CSR.

    Raises:
        BadInputError: The pattern has another shape.
    """
    entries = scipy.sparse.csr_array(pattern)
    if entries.shape != shape:
        raise BadInputError(f"finite_diff_jac_sparsity has shape {entries.shape}: it must be [{shape[0]}, {shape[1]}]")
    entries.eliminate_zeros()
    ones = scipy.sparse.csr_array((np.ones(entries.nnz), entries.indices, entries.indptr), shape=shape)
    colors = Pattern.of(ones, np.zeros(0, dtype=np.int64), False)

    def jacobian(x: Tensor) -> scipy.sparse.csr_array:
        steps = torch.finfo(x.dtype).eps ** (1 / 3) * x.abs().clamp(min=1)
        products = []
        for first in range(colors.count):
            seed = torch.from_numpy(colors.seeds(first, first + 1, np.dtype(np.float64))[0]).to(x) * steps
            products.append(((function(x + seed) - function(x - seed)) / 2).cpu().double().numpy())
        found = colors.recover(np.array(products).reshape(len(products), shape[0]))
        return scipy.sparse.csr_array(found @ scipy.sparse.diags_array(1 / steps.cpu().double().numpy()))

    return jacobian
