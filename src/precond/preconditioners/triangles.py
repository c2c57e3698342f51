"""A pair of triangular sweeps as a state: what SSOR and incomplete factorizations are applied by."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from precond.core import Evidence, IncompatibleError, Operator
from precond.math.incomplete import Array, Sweep, adjoint_sweep, arrays, sweep, two_sweeps


@dataclasses.dataclass
class TrianglesState:
    """``apply(v) = S3 (I + U)^-1 S2 (I + L)^-1 S1 v`` with strict triangles ``L``, ``U``; the identity while empty.

    Attributes:
        operator: The operator seen last.
        lower: ``L`` as `two_sweeps` takes it.
        upper: ``U``, too.
        scales: The diagonals ``S1, S2, S3``; empty ones stand for ones.
        shift: Shift of the last factorization, in units of the diagonal; the next one starts from it.
    """

    operator: Operator | None = None
    lower: Sweep | None = None
    upper: Sweep | None = None
    scales: tuple[Array, Array, Array] | None = None
    shift: float = 0.0
    _adjoint: tuple[Sweep, Sweep, Sweep] | None = None

    def apply(self, v: Tensor) -> Tensor:
        """Sweep forth and back over each row of ``v``; vectors elsewhere than on the CPU go there and come back."""
        if self.lower is None or self.upper is None or self.scales is None:
            return v
        swept = two_sweeps(self.lower, self.upper, self.scales, v.contiguous().numpy(force=True))
        return torch.from_numpy(swept) if v.device.type == "cpu" else torch.from_numpy(swept).to(v.device)

    def apply_adjoint(self, v: Tensor) -> Tensor:
        """Return ``S1^H (I + L^H)^-1 S2^H (I + U^H)^-1 S3^H v``; the adjoints are formed once for each pair."""
        if self.lower is None or self.upper is None or self.scales is None:
            return v
        if self._adjoint is None or self._adjoint[0] is not self.lower:
            self._adjoint = (self.lower, adjoint_sweep(self.upper, 1), adjoint_sweep(self.lower, -1))
        _, lower, upper = self._adjoint
        s1, s2, s3 = (np.conj(s) for s in self.scales)
        swept = two_sweeps(lower, upper, (s3, s2, s1), v.contiguous().numpy(force=True))
        return torch.from_numpy(swept).to(v.device)


def operator_with_entries(evidence: Evidence, name: str) -> Operator:
    """Return the operator of the evidence; refuse one without entries."""
    operator = evidence.operator
    if operator is None or operator.entries() is None:
        raise IncompatibleError(
            f"{name} needs the entries of the matrix, this operator has only products: give a dense or sparse matrix, "
            "or use preconditioner='identity'"
        )
    return operator


__all__ = ["TrianglesState", "arrays", "operator_with_entries", "sweep"]
