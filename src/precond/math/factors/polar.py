"""Polar factors of batches of matrices: the nearest (semi-)orthogonal matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from precond.math.factors.polar_gram import iterate_gram, operations
from precond.math.machine.products import fast_products, multiplies_bfloat16

Form = Literal["auto", "matrix", "gram"]
"""What Newton-Schulz steps run on: the matrices, their Gram matrices, or whichever takes fewer multiplications."""


@dataclasses.dataclass(frozen=True)
class NewtonSchulz:
    """A polynomial iteration for polar factors: which odd quintic at each step, and how matrices are scaled first.

    Step k maps every singular value ``s`` to ``a s + b s^3 + c s^5`` with the k-th coefficients; after the last ones
    the last are repeated.

    Attributes:
        coefficients: Triples ``(a, b, c)``, one per step.
        scaling: ``"frobenius"`` divides by the Frobenius norm; ``"aol"`` divides every row (of the shorter side) by
            the square root of the absolute row sum of the Gram matrix, which bounds the spectral norm by one much more
            tightly where rows are nearly orthogonal, but turns the limit where they are not (arXiv 2512.04632).
        margin: What to multiply the Frobenius norm by before dividing, for singular values that rounding lifts.
    """

    coefficients: Sequence[tuple[float, float, float]]
    scaling: Literal["frobenius", "aol"] = "frobenius"
    margin: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not self.coefficients or any(len(triple) != 3 for triple in self.coefficients):
            raise ValueError(f"coefficients must be triples (a, b, c), at least one, not {self.coefficients!r}")
        if self.scaling not in ("frobenius", "aol"):
            raise ValueError(f"the scaling must be 'frobenius' or 'aol', not {self.scaling!r}")

    def quintics(self, steps: int) -> tuple[tuple[float, float, float], ...]:
        """Return the coefficients of so many steps."""
        given = tuple(self.coefficients)
        return given[:steps] + given[-1:] * max(0, steps - len(given))


MUON = NewtonSchulz(((3.4445, -4.7750, 2.0315),))
"""Quintic of Jordan et al. (2024): steep at zero, and content to land singular values near, not at, one."""

_FIVE = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)

FIVE_QUINTICS = NewtonSchulz(_FIVE)
"""Five different quintics that end near one, used by the speed runs of NanoGPT and by Boissin et al. (2025)."""

TURBO = NewtonSchulz(_FIVE[1:], scaling="aol")
"""Turbo-Muon (arXiv 2512.04632): the row scaling does the work of the first of the five quintics."""

TURBO_FIVE = NewtonSchulz(_FIVE, scaling="aol")
"""The row scaling with all five quintics, for arguments that are nearly of low rank."""

_MINIMAX = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749747, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_SAFETY = 1.01

POLAR_EXPRESS = NewtonSchulz(
    (*((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _MINIMAX), (1.875, -1.25, 0.375)), margin=_SAFETY
)
"""Polar Express (arXiv 2505.16932): the best quintic at each step for singular values from 1e-3 to 1; converges."""

_LARGE = 128
"""Shorter side from which on a processor's bfloat16 is worth its rounding."""


def polar(
    matrices: Tensor,
    steps: int = 5,
    iteration: NewtonSchulz = MUON,
    dtype: torch.dtype | None = None,
    floor: float = 1e-7,
    form: Form = "auto",
    scale: float = 1.0,
) -> Tensor:
    """Return approximate polar factors by Newton-Schulz iterations ``X <- a X + b (X X^T) X + c (X X^T)^2 X``.

    Zero matrices stay zero; a member with an entry that is not finite gives NaN and leaves the other members alone.

    Args:
        matrices: Shape ``[..., m, n]``, floating point.
        steps: Number of iterations.
        iteration: Coefficients and scaling.
        dtype: Dtype to work in; by default float64 for float64, else bfloat16 where the device multiplies it natively
            (CUDA devices; large matrices on processors with AVX512-BF16 or AMX), and float32 elsewhere.
        floor: Added to the Frobenius norm before dividing by it, so that tiny matrices give small factors; the least
            absolute row sum with the other scaling.
        form: ``"matrix"`` steps with ``X``; ``"gram"`` steps with ``X X^T`` alone and multiplies ``X`` at the end, in
            float16 on CUDA devices and in float32 on processors where the other would take bfloat16; ``"auto"`` takes
            the one with fewer multiplications on processors and in single and double precision, and ``X`` in half
            precision elsewhere. Equal but for rounding.
        scale: What to multiply the factors by.

    Returns:
        Shape and dtype of ``matrices``.
    """
    if matrices.ndim < 2:
        raise ValueError(f"a polar factor needs matrices, not shape {tuple(matrices.shape)}: reshape to [m, n] first")
    if matrices.numel() == 0:
        return matrices.clone()
    x = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    quintics = iteration.quintics(steps)
    dtype, on_gram = _plan(matrices, quintics, dtype, form)
    first, norms = None, _norms(x, iteration)
    if norms is None:
        x, first = _scaled(x, iteration, floor)
    x = x.to(dtype).reshape(-1, *matrices.shape[-2:]).contiguous()
    if norms is not None:
        x = x.clone() if x.data_ptr() == matrices.data_ptr() else x
        factors = [1.0 / (iteration.margin * norm + floor) for norm in norms]
        if x.dtype in (torch.float32, torch.float64):
            x.mul_(torch.tensor(factors, dtype=x.dtype).view(-1, 1, 1))
        else:
            torch._foreach_mul_(list(x.unbind(0)), factors)  # by numbers, which are not rounded to half precision
    if first is not None:
        first = first.reshape(-1, *first.shape[-2:]).to(dtype)
    with fast_products(x, x.numel() * min(x.shape[1:])):
        x = iterate_gram(x, quintics, first, scale) if on_gram else _iterate(x, quintics, first, scale)
    return x.reshape(matrices.shape).to(matrices.dtype)


_PLAIN = 1e-12, 1e12
"""Norms of matrices that are as well scaled after rounding, in any precision."""


def _norms(x: Tensor, iteration: NewtonSchulz) -> list[float] | None:
    """Return the Frobenius norms of matrices on a processor, if dividing by them is all the scaling that they need."""
    if iteration.scaling != "frobenius" or x.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    norms: list[float] = torch.linalg.vector_norm(x, dim=(-2, -1)).flatten().tolist()
    plain = all(_PLAIN[0] < norm < _PLAIN[1] or norm == 0.0 for norm in norms)
    return norms if plain else None


def _scaled(x: Tensor, iteration: NewtonSchulz, floor: float) -> tuple[Tensor, Tensor | None]:
    """Return matrices with spectral norms at most (about) one, and their Gram matrices where they come with them."""
    # Dividing by the largest entry first keeps the sum of squares from overflowing or vanishing.
    largest = x.abs().amax((-2, -1), keepdim=True)
    largest = torch.where(largest == 0, 1.0, largest)
    x = x / largest
    tall = x.shape[-2] > x.shape[-1]
    if iteration.scaling == "aol":
        x, first = _scale_rows(x.mT if tall else x, floor / largest**2)
        return (x.mT if tall else x), first
    return x / (iteration.margin * torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + floor / largest), None


def _iterate(
    x: Tensor, quintics: Sequence[tuple[float, float, float]], first: Tensor | None, scale: float = 1.0
) -> Tensor:
    """Take the steps with ``X`` itself, and multiply by ``scale``; ``first`` is its Gram matrix, if it is known.

    Factors of products must be the same numbers in every call: oneDNN makes a kernel for each.
    """
    if not quintics:
        return x * scale
    tall = x.shape[-2] > x.shape[-1]
    held = [torch.empty_like(x) for _ in range(min(2, len(quintics)))]  # ``x`` itself may be the caller's
    gram = x.new_empty(x.shape[0], min(x.shape[1:]), min(x.shape[1:]))
    if first is not None:
        gram.copy_(first)
    polynomial = torch.empty_like(gram)
    for step, (a, b, c) in enumerate(quintics):  # on the shorter side: X p(X^T X) = p(X X^T) X
        if step or first is None:
            torch.bmm(*((x.mT, x) if tall else (x, x.mT)), out=gram)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        by = scale if step + 1 == len(quintics) else 1.0
        x = torch.baddbmm(x, *((x, polynomial) if tall else (polynomial, x)), beta=a * by, alpha=by, out=held[step % 2])
    return x


def _plan(
    matrices: Tensor, quintics: Sequence[tuple[float, float, float]], dtype: torch.dtype | None, form: Form
) -> tuple[torch.dtype, bool]:
    """Return the dtype to work in, and whether to step on the Gram matrix."""
    if form not in ("auto", "matrix", "gram"):
        raise ValueError(f"the form must be 'auto', 'matrix' or 'gram', not {form!r}")
    working = _working_dtype(matrices) if dtype is None else dtype
    if form == "gram":
        wide = torch.float16 if matrices.device.type == "cuda" else torch.float32
        return (wide if dtype is None and working == torch.bfloat16 else working), True
    half = working in (torch.float16, torch.bfloat16)
    if form == "matrix" or (half and matrices.device.type != "cpu"):
        return working, False
    ordinary, on_gram = operations(matrices.shape[-2], matrices.shape[-1], quintics, working)
    return working, on_gram < ordinary


def polar_exact(matrices: Tensor) -> Tensor:
    """Return ``U V^T`` of the reduced singular value decomposition, for each matrix of ``[..., m, n]``.

    Directions whose singular value is below rounding are left out, so that a zero matrix gives zero. A member with an
    entry that is not finite gives NaN.
    """
    if matrices.ndim < 2:
        raise ValueError(f"a polar factor needs matrices, not shape {tuple(matrices.shape)}: reshape to [m, n] first")
    if matrices.numel() == 0:
        return matrices.clone()
    work = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    finite = work.isfinite().all(-1).all(-1)[..., None, None]
    work = torch.where(finite, work, 0.0)
    try:
        u, s, vt = torch.linalg.svd(work, full_matrices=False)
    except torch.linalg.LinAlgError:  # products alone always come to an end
        factor = polar(work.double(), steps=30, iteration=POLAR_EXPRESS)
        return torch.where(finite, factor.to(work.dtype), torch.nan).to(matrices.dtype)
    floor = max(matrices.shape[-2:]) * torch.finfo(work.dtype).eps * s[..., :1]
    factor = (u * (s > floor)[..., None, :]) @ vt
    return torch.where(finite, factor, torch.nan).to(matrices.dtype)


def _scale_rows(x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each row of ``[..., m, n]`` by the root of its absolute row sum in ``x x^T``: spectral norms become <= 1.

    Source: almost-orthogonal layers (Prach and Lampert, arXiv 2208.03160), as Turbo-Muon uses it.

    Args:
        x: Matrices, at least as wide as high.
        floor: Least row sum, to broadcast.

    Returns:
        The scaled matrices, and their Gram matrices ``[..., m, m]``, which cost no second product.
    """
    gram = x @ x.mT
    sums = torch.maximum(gram.abs().sum(-1, keepdim=True), floor)
    scale = sums.clamp(min=torch.finfo(x.dtype).tiny).rsqrt()
    return scale * x, scale * gram * scale.mT


def _working_dtype(x: Tensor) -> torch.dtype:
    if x.dtype == torch.float64:
        return torch.float64
    large = x.device.type == "cuda" or min(x.shape[-2:]) >= _LARGE
    return torch.bfloat16 if large and multiplies_bfloat16(x.device) else torch.float32
