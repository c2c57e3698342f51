"""Optimizer classes with the argument names of the reference packages: one line to exchange for another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.math.factors.polar import MUON, Form, NewtonSchulz
from precond.optim.optimizer import Optimizer
from precond.preconditioners.polar import Scale
from precond.recipes import matrix, orthogonal
from precond.recipes.arguments import BETAS, EPS, MOMENTUM, adjustable, checked_betas, rate_ratio
from precond.recipes.grafts import Grafting
from precond.recipes.routes import NOT_HIDDEN
from precond.recipes.states import State


class Muon(Optimizer):
    """Orthogonalized momentum for hidden matrices, AdamW for the rest; see `precond.recipes.orthogonal.muon`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate of the hidden matrices.
        weight_decay: Decoupled decay.
        momentum: Decay of the average of gradients.
        nesterov: Use Nesterov momentum.
        ns_steps: Newton-Schulz iterations; 0 for the exact polar factor.
        scale: ``"spectral"``, ``"rms"`` or ``"none"``; see `precond.preconditioners.polar.Polar`.
        adamw_lr: Learning rate of the rest; it keeps its ratio to ``lr`` under a schedule.
        exclude: Shell patterns of names that are not hidden.
        iteration: Newton-Schulz polynomials; see `precond.math.factors.polar`.
        polar: What the iteration steps on: ``"matrix"``, ``"gram"`` or ``"auto"``; see `precond.math.factors.polar`.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        scale: Scale = "spectral",
        adamw_lr: float = 3e-4,
        exclude: Sequence[str] = NOT_HIDDEN,
        iteration: NewtonSchulz = MUON,
        polar: Form = "auto",
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(orthogonal.muon, MOMENTUM | {"adamw_scale": "adamw_scale"},
            momentum=momentum, nesterov=nesterov, steps=ns_steps, scale=scale, iteration=iteration, polar=polar,
            exclude=exclude, adamw_scale=rate_ratio("adamw_lr", adamw_lr, lr),
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class Shampoo(Optimizer):
    """Kronecker-factored AdaGrad; see `precond.recipes.matrix.shampoo`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Heavy-ball momentum of the directions.
        beta: Decay of the factors; 1 sums them.
        epsilon: The factors start at this multiple of the identity.
        weight_decay: Decoupled decay.
        precondition_frequency: Steps between roots.
        max_preconditioner_dim: Axes longer than this are left as they are.
        grafting: ``"none"``, ``"sgd"``, ``"adagrad"``, ``"rmsprop"`` or ``"adam"``: whose norm each direction gets.
        block_size: Longest side of the tiles that tensors are cut into; whole tensors unless given.
        merge_dims: Length up to which neighbouring axes are merged; not at all unless given.
        one_sided: Only the shortest axis of each tensor or tile gets a factor.
        factor_block_size: Factors of longer axes are block diagonal, with blocks no longer than this.
        statistics_frequency: Steps between gradients that the factors absorb.
        half_roots: Keep the roots in bfloat16, and multiply by them in bfloat16 where the device can.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Take the roots of different tensors at different steps, to spread the cost; False takes all at once.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        beta: float = 1.0,
        epsilon: float = 1e-4,
        weight_decay: float = 0.0,
        precondition_frequency: int = 1,
        max_preconditioner_dim: int = 8192,
        grafting: Grafting = "none",
        block_size: int | None = None,
        merge_dims: int | None = None,
        one_sided: bool = False,
        factor_block_size: int | None = None,
        statistics_frequency: int = 1,
        half_roots: bool = False,
        state: State = "full",
        stagger: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(matrix.shampoo, MOMENTUM, state=state, stagger=stagger,
            momentum=momentum, beta=beta, eps=epsilon, every=precondition_frequency, max_dim=max_preconditioner_dim,
            graft=grafting, block=block_size, merge=merge_dims, one_sided=one_sided,
            factor_block=factor_block_size, statistics=statistics_frequency, half=half_roots,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo's factors; see `precond.recipes.matrix.soap`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients and of their squares.
        shampoo_beta: Decay of the factors; that of the squares unless given.
        eps: Added to the square root.
        weight_decay: Decoupled decay.
        precondition_frequency: Steps between turns of the basis.
        max_precond_dim: Axes longer than this keep their own basis, and neighbouring axes are merged up to this length.
        merge_dims: Merge neighbouring axes.
        precondition_1d: Turn vectors too, rather than give them Adam.
        normalize_grads: Scale every direction to a root mean square of one.
        one_sided: Turn only the shortest axis of each tensor.
        block_size: Longest side of the tiles that tensors are cut into; whole tensors unless given.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Turn the bases of different tensors at different steps, to spread the cost; False turns all at once.
        turn_growth: By how much a turn of the basis may lengthen the longest entry of a direction; ``None`` for however
            much.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        merge_dims: bool = False,
        precondition_1d: bool = False,
        normalize_grads: bool = False,
        one_sided: bool = False,
        block_size: int | None = None,
        state: State = "full",
        stagger: bool = True,
        turn_growth: float | None = None,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(matrix.soap, BETAS | EPS,
            b1=b1, b2=b2, shampoo_beta=shampoo_beta, eps=eps, every=precondition_frequency, max_dim=max_precond_dim,
            merge=max_precond_dim if merge_dims else None, vectors=precondition_1d, normalize=normalize_grads,
            one_sided=one_sided, block=block_size, state=state, stagger=stagger,
            growth=turn_growth,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class LeanSOAP(Optimizer):
    """SOAP with less work in the bases, several times cheaper; see `precond.recipes.matrix.lean_soap`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of the averages of gradients and of their squares.
        shampoo_beta: Decay of the factors; that of the squares unless given.
        eps: Added to the square root.
        weight_decay: Decoupled decay.
        precondition_frequency: Steps between turns of the basis.
        max_precond_dim: Axes longer than this keep their own basis.
        factor_block_size: Bases of longer axes are block diagonal, with blocks no longer than this; ``None`` for whole
            ones.
        statistics_frequency: Steps between gradients that the factors absorb.
        half_bases: Keep the bases in bfloat16, and multiply by them in bfloat16 where the device can.
        fitted_factors: Divide each factor by the eigenvalues of the others, as `KLSOAP` does.
        early_frequency: Steps between turns within the first ``precondition_frequency`` steps; twice as many whenever
            as many steps again have gone by. ``None`` for as many as later from the first on.
        turn_growth: By how much a turn of the basis may lengthen the longest entry of a direction; ``None`` for however
            much.
        block_size: Longest side of the tiles that tensors are cut into; whole tensors unless given.
        one_sided: Turn only the shortest axis of each tile.
        merge_dims: Length up to which neighbouring axes are merged; not at all unless given.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Turn the bases of different tensors at different steps, to spread the cost; False turns all at once.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 20,
        max_precond_dim: int = 10000,
        factor_block_size: int | None = None,
        statistics_frequency: int = 1,
        half_bases: bool = True,
        fitted_factors: bool = True,
        early_frequency: int | None = 4,
        turn_growth: float | None = 3.0,
        block_size: int | None = None,
        one_sided: bool = False,
        merge_dims: int | None = None,
        state: State = "full",
        stagger: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2)
        method = adjustable(matrix.lean_soap, BETAS | EPS,
            block=block_size, factor_block=factor_block_size, statistics=statistics_frequency, half=half_bases,
            fitted=fitted_factors, max_dim=max_precond_dim, b1=b1, b2=b2, shampoo_beta=shampoo_beta, eps=eps,
            every=precondition_frequency, early=early_frequency, one_sided=one_sided, merge=merge_dims, state=state,
            stagger=stagger, growth=turn_growth,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
