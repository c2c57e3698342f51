"""Optimizer classes of methods with second moments of matrices, with the argument names of their published code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from precond.core import Distributor
from precond.math.factors.root_methods import CoupledQuintics
from precond.optim.optimizer import Optimizer
from precond.recipes import distributed, kronecker, one_sided
from precond.recipes.arguments import BETAS, EPS, MOMENTUM, REST, adjustable, checked_betas, rate_ratio
from precond.recipes.grafts import Grafting
from precond.recipes.routes import NOT_HIDDEN
from precond.recipes.states import State


class ASGO(Optimizer):
    """Shampoo with one factor; see `precond.recipes.one_sided.asgo`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate.
        momentum: Decay of the average of gradients.
        weight_decay: Decoupled decay.
        beta2: Decay of the factor.
        matalg_steps: Iterations of the root.
        precondition_frequency: Steps between roots.
        adamw_lr: AdamW's learning rate for the rest, ``lr`` unless given; it keeps its ratio to ``lr`` under a
            schedule.
        exclude: Shell patterns of names that are not hidden.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.1,
        beta2: float = 0.8,
        matalg_steps: int = 10,
        precondition_frequency: int = 1,
        adamw_lr: float | None = None,
        exclude: Sequence[str] = NOT_HIDDEN,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(one_sided.asgo, MOMENTUM | REST,
            momentum=momentum, beta=beta2, root=CoupledQuintics(matalg_steps), every=precondition_frequency,
            rest_scale=1.0 if adamw_lr is None else rate_ratio("adamw_lr", adamw_lr, lr), exclude=exclude,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class DASGO(Optimizer):
    """ASGO with one number per column; see `precond.recipes.one_sided.dasgo`.

    Args:
        params: ``model.named_parameters()``, so that embeddings and output layers are known by name; or parameters or
            groups, of which every one with two or more axes is then taken for hidden.
        lr: Learning rate.
        momentum: Decay of the average of gradients.
        weight_decay: Decoupled decay.
        beta2: Decay of the average of squares.
        eps: Added under the root.
        adamw_lr: AdamW's learning rate for the rest, ``lr`` unless given; it keeps its ratio to ``lr`` under a
            schedule.
        exclude: Shell patterns of names that are not hidden.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.1,
        beta2: float = 0.95,
        eps: float = 1e-8,
        adamw_lr: float | None = None,
        exclude: Sequence[str] = NOT_HIDDEN,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(one_sided.dasgo, MOMENTUM | EPS | REST,
            momentum=momentum, beta=beta2, eps=eps, exclude=exclude,
            rest_scale=1.0 if adamw_lr is None else rate_ratio("adamw_lr", adamw_lr, lr),
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class ShampooSquared(Optimizer):
    """Shampoo with exponent 1/2 and the trace in its place; see `precond.recipes.kronecker.shampoo_squared`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Heavy-ball momentum of the directions.
        beta: Decay of the factors; 1 sums them.
        epsilon: The factors start at this multiple of the identity.
        weight_decay: Decoupled decay.
        precondition_frequency: Steps between roots.
        max_preconditioner_dim: Axes longer than this are left as they are.
        factor_block_size: Factors of longer axes are block diagonal, with blocks no longer than this.
        statistics_frequency: Steps between gradients that the factors absorb.
        half_roots: Keep the roots in bfloat16, and multiply by them in bfloat16 where the device can.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
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
        factor_block_size: int | None = None,
        statistics_frequency: int = 1,
        half_roots: bool = False,
        state: State = "full",
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(
            kronecker.shampoo_squared,
            MOMENTUM,
            factor_block=factor_block_size,
            statistics=statistics_frequency,
            half=half_roots,
            state=state,
            momentum=momentum,
            beta=beta,
            eps=epsilon,
            every=precondition_frequency,
            max_dim=max_preconditioner_dim,
        )
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class ScalableShampoo(Optimizer):
    """Shampoo with grafting and delayed Newton roots; see `precond.recipes.kronecker.scalable_shampoo`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        momentum: Decay of the velocity of the directions.
        nesterov: Use Nesterov momentum.
        beta2: Decay of the factors; 1 sums them.
        matrix_eps: Ridge of the factors, relative to their largest eigenvalue.
        diagonal_eps: Added to the root of AdaGrad's sum.
        weight_decay: Decoupled decay.
        graft: ``"sgd"`` or ``"adagrad"``: whose norm each direction gets.
        preconditioning_compute_steps: Steps between roots.
        start_preconditioning_step: The first step with a preconditioned direction.
        block_size: Neighbouring axes are merged up to this length, longer ones cut.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        beta2: float = 1.0,
        matrix_eps: float = 1e-6,
        diagonal_eps: float = 1e-6,
        weight_decay: float = 0.0,
        graft: Literal["sgd", "adagrad"] = "sgd",
        preconditioning_compute_steps: int = 1,
        start_preconditioning_step: int = 1,
        block_size: int = 128,
        state: State = "full",
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        method = adjustable(kronecker.scalable_shampoo, MOMENTUM, state=state,
            momentum=momentum, nesterov=nesterov, beta=beta2, eps=matrix_eps, graft=graft, graft_eps=diagonal_eps,
            every=preconditioning_compute_steps, start=start_preconditioning_step, block=block_size,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)


class DistributedShampoo(Optimizer):
    """Shampoo as it is run at scale; see `precond.recipes.distributed.distributed_shampoo`.

    Args:
        params: Parameters, named parameters or parameter groups.
        lr: Learning rate.
        betas: Decays of the average of gradients and of the factors; 1 sums these.
        beta3: Weight of the average in what is preconditioned; that of ``betas[0]`` unless given.
        epsilon: Added to the factors before their roots are taken.
        weight_decay: Decoupled decay.
        max_preconditioner_dim: Neighbouring axes are merged up to this length, longer ones cut.
        precondition_frequency: Steps between roots.
        start_preconditioning_step: The first step with a preconditioned direction; the interval unless given.
        use_bias_correction: Debias both averages.
        grafting: ``"none"``, ``"sgd"``, ``"adagrad"``, ``"rmsprop"`` or ``"adam"``: whose norm each direction gets.
        grafting_beta2: Decay of the squares of RMSProp and Adam.
        grafting_epsilon: Added to their root.
        inverse_exponent_override: From a number of axes to the exponent of the inverse of each factor.
        target_parameter_dimensionality: Axes are merged only while more than these are left.
        adaptive_tolerance: Error of the eigenvectors from which on they are improved by a QR iteration; without one,
            every root is taken by an eigendecomposition.
        num_tolerated_failed_amortized_computations: Roots of a tile that may fail in a row.
        momentum: Heavy-ball momentum of the directions.
        dampening: What is taken off each direction after the first.
        use_nesterov: Use Nesterov momentum.
        one_sided: Only the shortest axis gets a factor.
        eigenvalue_floor: Eigenvalues below this fraction of the largest are raised to it; 0 is the published code.
        state: Bits of the state: ``"full"``, ``"compact"``, ``"8-bit"`` or ``"4-bit"``.
        stagger: Take the roots of different tensors at different steps, to spread the cost; False takes all at once.
        distributor: Where the parameters live; see `precond.optim.Optimizer`.
        compile: Compile the work between refreshes; see `precond.optim.Optimizer`.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 1.0),
        beta3: float | None = None,
        epsilon: float = 1e-12,
        weight_decay: float = 0.0,
        max_preconditioner_dim: int = 1024,
        precondition_frequency: int = 1,
        start_preconditioning_step: int | None = None,
        use_bias_correction: bool = True,
        grafting: Grafting = "none",
        grafting_beta2: float = 0.999,
        grafting_epsilon: float = 1e-10,
        inverse_exponent_override: Mapping[int, float] | None = None,
        target_parameter_dimensionality: int = 1,
        adaptive_tolerance: float | None = None,
        num_tolerated_failed_amortized_computations: int = 3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        use_nesterov: bool = False,
        one_sided: bool = False,
        eigenvalue_floor: float = 1e-6,
        state: State = "full",
        stagger: bool = True,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,
    ) -> None:
        b1, b2 = checked_betas(betas, 2, sums=True)
        method = adjustable(distributed.distributed_shampoo, BETAS, state=state, stagger=stagger,
            b1=b1, b2=b2, b3=beta3, eps=epsilon, graft=grafting, graft_b2=grafting_beta2, graft_eps=grafting_epsilon,
            every=precondition_frequency, start=start_preconditioning_step, block=max_preconditioner_dim,
            fewest_axes=target_parameter_dimensionality, debias=use_bias_correction, exponent=inverse_exponent_override,
            one_sided=one_sided, adaptive=adaptive_tolerance, tolerated=num_tolerated_failed_amortized_computations,
            momentum=momentum, dampening=dampening, nesterov=use_nesterov, floor=eigenvalue_floor,
        )  # fmt: skip
        super().__init__(params, method, lr=lr, weight_decay=weight_decay, distributor=distributor, compile=compile)
