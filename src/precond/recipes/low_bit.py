"""Shampoo with factors and roots of four bits."""

from __future__ import annotations

from typing import Any, Literal

from precond.core import (
    BadInputError,
    Builds,
    Cadence,
    Choice,
    Filter,
    Kind,
    LogUniform,
    Method,
    Paper,
    Storage,
)
from precond.filters.adam import Adam
from precond.filters.heavy_ball import HeavyBall
from precond.math.tensors.codes import dynamic_tree, linear_square
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.decomposed import Decomposed
from precond.preconditioners.decompositions import Cholesky, Decomposition, Spectrum
from precond.preconditioners.graft import Graft
from precond.preconditioners.identity import Identity
from precond.preconditioners.merged import AsMatrix
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled
from precond.storage.blockwise import Blockwise
from precond.storage.by_role import ByRole
from precond.storage.compensated import Compensated
from precond.storage.off_diagonal import OffDiagonal

_CODES = {"linear-2": linear_square(4), "dynamic-tree": dynamic_tree(4)}
_SMALLEST = 4096
"""Matrices with fewer entries stay in full precision, as in the published code."""


def _method(
    form: Decomposition, storage: Storage, base: str, betas: tuple[float, float], momentum: float, nesterov: bool,
    adam_eps: float, beta: float, eps: float, observe_every: int, every: int, block: int,
    max_dim: int,
) -> Method:  # fmt: skip
    bases: dict[str, Filter[Any]] = {
        "adamw": Adam(*betas, adam_eps),
        "sgdm": HeavyBall(momentum, nesterov=nesterov),
    }
    if base not in bases:
        raise BadInputError(f"base must be 'adamw' or 'sgdm', not {base!r}")
    factors = AsMatrix(Blocked(block, Decomposed(form, beta, eps, observe_every, max_dim), max_dim))
    return Method(
        preconditioner=Graft(factors, Identity()),
        smoothing=bases[base],
        decay=Decoupled(),
        cadence=Cadence(every=every),
        storage=storage,
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="4-bit Shampoo for Memory-Efficient Network Training",
        authors="Sike Wang, Pan Zhou, Jia Li, Hua Huang",
        year=2024,
        arxiv="2405.18144",
        venue="NeurIPS 2024",
    ),
    purpose="Shampoo whose eigenvectors and roots rest in four bits, before AdamW or momentum.",
    claim="Keeps the accuracy of 32-bit Shampoo on image classification and language models at far less memory.",
    example="precond.optim.Shampoo4bit(model.parameters(), lr=1e-3)",
    name="shampoo-4bit",
    space={"lr": LogUniform(1e-4, 1e-2), "b1": Choice((0.9, 0.95)), "b2": Choice((0.95, 0.99, 0.999))},
    lr=1e-3,
)
def shampoo_4bit(
    *,
    base: Literal["adamw", "sgdm"] = "adamw",
    b1: float = 0.9,
    b2: float = 0.999,
    adam_eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = False,
    beta: float = 0.95,
    eps: float = 1e-6,
    observe_every: int = 100,
    every: int = 500,
    block: int = 1200,
    max_dim: int = 10000,
    quantized_block: int = 64,
    code: Literal["linear-2", "dynamic-tree"] = "linear-2",
    before_turning: int = 1,
    before_rooting: int = 4,
) -> Method:
    """Shampoo with quantized eigenvectors that are made orthogonal again.

    A tensor without its axes of length one is a matrix ``(first, rest)``; longer sides than ``block`` are cut, and
    those longer than ``max_dim`` are neither cut nor given a factor. Each of its two factors is ``A = V diag(s) V^T``,
    from ``V = I``, ``s = eps``, with ``V`` in codes of four bits. Every ``observe_every`` steps, with ``G`` the
    gradient (or its transpose),

        ``V <- 1.5 V - 0.5 V V^T V`` (``before_turning`` times), ``A = beta V diag(s) V^T + (1 - beta) G G^T``,
        ``V <- qr(A V)``, ``s = diag(V^T A V)``,

    and every ``every`` steps, after ``before_rooting`` such repairs, ``R = V diag(s + eps max s)^(-1/4) V^T``, kept in
    codes of four bits beside an exact diagonal. ``U = R_L G R_R`` gets the norm of ``G`` and takes the place of the
    gradient in AdamW, or in momentum. A code is the nearest entry of the table ``code`` to an entry divided by the
    largest of its block of ``quantized_block``; blocks run down the columns of ``V``. Matrices of fewer than 4096
    entries are not quantized.

    Deviations:
        1. Long sides are cut evenly; the published code cuts blocks and a smaller rest.
        2. Where a side is no multiple of ``quantized_block``, a block goes on in the next column; there, it ends.
        3. Weight decay is decoupled; the published code adds it to ``U`` in the form with momentum.
        4. Negative eigenvalues, which rounding makes, count as zero; the published code takes their root as well.
        5. Different tensors take their roots at different steps, the first at step 1 (when they are multiples of the
           identity, so that nothing changes).
        6. Codes are what rests between steps: the step that computes vectors or a root uses them as computed.
        7. ``U = R_L G R_R^T``: a rounded root is not quite symmetric.
        8. The published code cuts sides of any length; ``max_dim`` bounds time and state for tables of embeddings.
    """
    if code not in _CODES:
        raise BadInputError(f"code must be one of {', '.join(_CODES)}, not {code!r}")
    table = _CODES[code]
    storage = ByRole(
        orthogonal=Blockwise(4, quantized_block, _SMALLEST, orthogonal=table),
        root=OffDiagonal(table, quantized_block, _SMALLEST),
    )
    return _method(
        Spectrum(eps, before_turning, before_rooting), storage, base, (b1, b2), momentum, nesterov, adam_eps, beta, eps,
        observe_every, every, block, max_dim,
    )  # fmt: skip


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="Memory-Efficient 4-bit Preconditioned Stochastic Optimization",
        authors="Jingyang Li, Kuangyu Ding, Kim-Chuan Toh, Pan Zhou",
        year=2024,
        arxiv="2412.10663",
        venue="ICCV 2025",
    ),
    purpose="Shampoo whose Cholesky factors and roots rest in four bits, with error feedback.",
    claim="Comes within 0.5 % of the accuracy of 32-bit Shampoo on image classification, and near its perplexity on "
    "language models, at far less memory.",
    example="precond.optim.Shampoo4bitCholesky(model.parameters(), lr=1e-3)",
    name="shampoo-4bit-cholesky",
    space={"lr": LogUniform(1e-4, 1e-2), "b1": Choice((0.9, 0.95)), "b2": Choice((0.95, 0.99, 0.999))},
    lr=1e-3,
)
def shampoo_4bit_cholesky(
    *,
    base: Literal["adamw", "sgdm"] = "adamw",
    b1: float = 0.9,
    b2: float = 0.999,
    adam_eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = False,
    beta: float = 0.95,
    beta_error: float = 0.95,
    eps: float = 1e-6,
    observe_every: int = 100,
    every: int = 500,
    block: int = 1200,
    max_dim: int = 10000,
    quantized_block: int = 64,
) -> Method:
    """Shampoo with quantized Cholesky factors and feedback of their errors.

    As `shampoo_4bit`, but a factor is ``A = C C^T`` with ``C`` lower triangular, from ``C = sqrt(eps) I``. Every
    ``observe_every`` steps ``C = cholesky(beta C' C'^T + (1 - beta) G G^T + eps I)``, and with ``Q`` the rounding of
    what is below the diagonal and ``E`` the error, also of four bits:

        ``C' = Q(C + E)``, ``E <- beta_error E + (1 - beta_error) (C + E - C')``.

    The codes of ``C'`` and ``E`` fill little more than one square. Every ``every`` steps
    ``R = (C' C'^T + eps lambda_max I)^(-1/4)``.

    Deviations:
        1. ``C'`` and ``E`` have blocks of their own, of entries that follow one another in a triangle packed by rows.
        2. Those of `shampoo_4bit`, but for the fourth.
    """
    storage = ByRole(
        triangular=Compensated(_CODES["linear-2"], quantized_block, _SMALLEST, beta_error),
        root=OffDiagonal(_CODES["linear-2"], quantized_block, _SMALLEST),
    )
    return _method(
        Cholesky(eps), storage, base, (b1, b2), momentum, nesterov, adam_eps, beta, eps, observe_every, every, block,
        max_dim,
    )  # fmt: skip
