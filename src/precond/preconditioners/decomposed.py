"""Kronecker factors that are kept decomposed and see a gradient only now and then."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    HEALTHY,
    BadInputError,
    Evidence,
    Health,
    Need,
    Preconditioner,
    Role,
    Scope,
    Traits,
    absorbed_before,
    need,
    rests_as,
)
from precond.math.tensors.modes import mode_products, unfolding
from precond.preconditioners.decompositions import Decomposition, Spectrum
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class DecomposedState:
    """State of `Decomposed`; vectors have no factors.

    Attributes:
        factors: Decomposed second moments of the modes.
        roots: Their inverse roots as of the last refresh, each ``[batch, n, n]``.
        steps: Gradients seen, ``[batch]``.
    """

    factors: list[Any]
    roots: list[Tensor] = rests_as(Role.ROOT)
    steps: Tensor = rests_as(Role.EXACT)


@final
@dataclasses.dataclass(frozen=True)
class Decomposed(Preconditioner[DecomposedState]):
    """``P = H_0^(-1/2k) x ... x H_{k-1}^(-1/2k)``, with each second moment ``H_i`` in a form that survives few bits.

    ``H_i`` averages the Gram matrix of every ``every``-th gradient alone. Tensors with one axis are left as they are.

    Sources: 4-bit Shampoo, Wang et al. (arXiv 2405.18144) and Li et al. (arXiv 2412.10663).

    Attributes:
        form: How the factors are kept.
        beta: Decay of the averages.
        eps: The factors start at ``eps`` times the identity.
        every: Gradients to one that is absorbed.
        max_dim: Modes longer than this are left as they are, and ``k`` counts the others.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    form: Decomposition = Spectrum()
    beta: float = 0.95
    eps: float = 1e-6
    every: int = 1
    max_dim: int = 10000

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.every < 1 or not self.eps > 0 or not 0.0 <= self.beta < 1.0:
            raise BadInputError(
                "every must be at least 1, eps positive and beta in [0, 1), "
                f"not {self.every}, {self.eps} and {self.beta}"
            )

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and constant between refreshes."""
        return Traits()

    def init(self, like: Tensor) -> DecomposedState:
        """Start every factor at ``eps`` times the identity, and its root at the identity."""
        batch, dims = like.shape[0], [like.shape[1 + mode] for mode in self._modes(like)]
        dtype = torch.promote_types(like.dtype, torch.float32)
        identities = [torch.eye(dim, dtype=dtype, device=like.device).expand(batch, dim, dim).clone() for dim in dims]
        factors = [self.form.init(self.eps, identity) for identity in identities]
        return DecomposedState(factors, identities, torch.zeros(batch, dtype=torch.int64, device=like.device))

    def observe(self, state: DecomposedState, evidence: Evidence) -> None:
        """Count, and absorb the gradient where its turn has come."""
        gradient = need(evidence.gradient, "gradient")
        turns = [(step + 1) % self.every == 0 for step in absorbed_before(evidence, state.steps)]
        state.steps.add_(1)
        if not state.factors or not any(turns):
            return
        chosen = torch.tensor(turns, device=gradient.device)
        for mode, factor, root in zip(self._modes(gradient), state.factors, state.roots, strict=True):
            rows = unfolding(gradient.to(root.dtype), mode)
            self.form.absorb(factor, torch.bmm(rows, rows.mT), self.beta, chosen)

    def refresh(self, state: DecomposedState) -> Health:
        """Take the roots again; members that fail keep their last."""
        health = HEALTHY
        for mode, (factor, root) in enumerate(zip(state.factors, state.roots, strict=True)):
            new, failed = self.form.root(factor, 2.0 * len(state.factors))
            root.copy_(torch.where(failed[:, None, None], root, new))
            health += Health.of(failed, f"no inverse root of the factor of mode {mode}")
        return health

    def apply(self, state: DecomposedState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply every mode by its root."""
        refuse_shift(self, shift)
        if not state.roots:
            return v.clone()
        roots: list[Tensor | None] = [None] * (v.ndim - 1)
        for mode, root in zip(self._modes(v), state.roots, strict=True):
            roots[mode] = root
        return mode_products(v, roots).to(v.dtype)

    def _modes(self, v: Tensor) -> list[int]:
        """Return the modes of ``v``, ``[batch, ...]``, that have a factor."""
        dims = v.shape[1:] if v.ndim > 2 else ()
        return [mode for mode, dim in enumerate(dims) if dim <= self.max_dim]
