"""The polar factor of every matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, final

from torch import Tensor

from precond.core import BadInputError, NoState, Preconditioner, Scope, Traits
from precond.math.factors.polar import MUON, Form, NewtonSchulz, polar, polar_exact
from precond.preconditioners.shifts import refuse_shift

Scale = Literal["spectral", "operator", "rms", "none"]


@final
@dataclasses.dataclass(frozen=True)
class Polar(Preconditioner[NoState]):
    """Steepest descent in the spectral norm: the (approximate) polar factor of its argument.

    Tensors of more than two axes are flattened to ``(first, -1)``; vectors are matrices of one column.

    Sources: Muon (Jordan et al., 2024); the ``"rms"`` scale: Moonlight (arXiv 2502.16982).

    Attributes:
        steps: Newton-Schulz iterations; 0 takes the exact factor by a singular value decomposition.
        scale: What to multiply an ``m x n`` factor by: ``"spectral"`` for ``sqrt(max(1, m / n))``,
            ``"operator"`` for ``sqrt(m / n)``, a unit ball of the norm between root mean squares, ``"rms"`` for
            ``0.2 sqrt(max(m, n))``, which gives the entries a root mean square near 0.2, or ``"none"``.
        iteration: Which Newton-Schulz iteration: `MUON`, `TURBO`, `POLAR_EXPRESS`, or one's own
            (`precond.math.factors.polar`).
        form: Whether to step with the matrices (``"matrix"``), with their Gram matrices (``"gram"``), or as takes fewer
            multiplications at no loss of precision (``"auto"``).
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    steps: int = 5
    scale: Scale = "spectral"
    iteration: NewtonSchulz = MUON
    form: Form = "auto"

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.scale not in ("spectral", "operator", "rms", "none"):
            raise BadInputError(f"the scale must be 'spectral', 'operator', 'rms' or 'none', not {self.scale!r}")
        if self.form not in ("auto", "matrix", "gram"):
            raise BadInputError(f"the form must be 'auto', 'matrix' or 'gram', not {self.form!r}")
        if self.steps < 0:
            raise BadInputError(f"the number of Newton-Schulz steps must not be negative, not {self.steps}")

    @property
    def traits(self) -> Traits:
        """Nonlinear; ``<v, polar v>`` is (nearly) the nuclear norm of ``v``."""
        return Traits(linear=False, symmetric=False)

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def apply(self, state: NoState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return the scaled factors."""
        refuse_shift(self, shift)
        matrices = v.reshape(v.shape[0], -1, 1) if v.ndim <= 2 else v.flatten(2)
        rows, columns = matrices.shape[-2:]
        scales = {
            "spectral": max(1.0, rows / columns) ** 0.5,
            "operator": (rows / columns) ** 0.5,
            "rms": 0.2 * max(rows, columns) ** 0.5,
            "none": 1.0,
        }
        scale = scales[self.scale]
        if self.steps:
            return polar(matrices, self.steps, self.iteration, form=self.form, scale=scale).reshape(v.shape)
        return (polar_exact(matrices) * scale).reshape(v.shape)
