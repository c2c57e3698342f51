"""Which kernels multiply single-precision matrices on a processor.

PyTorch multiplies float32 matrices with MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN, which
PyTorch carries too, uses AVX-512 wherever it is, at about twice the speed. PyTorch takes oneDNN when it is allowed to
round factors to bfloat16, and oneDNN rounds only where the processor has tile units for it. So it is allowed where
a product of known matrices shows that nothing is rounded, and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import torch
from torch import Tensor

_MULTIPLIES_BFLOAT16: dict[str, bool] = {}
_LEAST_WORK = 2**21
"""Multiplications below which the dearer call of oneDNN does not pay."""
_LEAST_HALF = 2**18
"""Multiplications below which products of bfloat16 take longer on a processor, by their dearer calls."""
_SWITCH = "PRECOND_BFLOAT16"
"""Environment variable; ``0`` keeps processors from multiplying in bfloat16."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that keep oneDNN from instructions which the processor has; the first that is set counts."""
_WITHOUT_BFLOAT16 = {"sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni"}
"""Their values that leave no products of bfloat16."""


_AS_IT_IS = contextlib.nullcontext()


def fast_products(like: Tensor, work: int) -> contextlib.AbstractContextManager[None]:
    """Multiply float32 matrices by the faster of the kernels that lose no precision, within a context.

    Args:
        like: A tensor with the device and dtype of the factors.
        work: Multiplications in one product, the batch included.

    Returns:
        The context.
    """
    if work < _LEAST_WORK or torch.compiler.is_compiling():  # who compiles opens the context around the graph
        return _AS_IT_IS
    if like.dtype != torch.float32 or like.device.type != "cpu" or not onednn_is_exact():
        return _AS_IT_IS
    return _onednn()


@contextlib.contextmanager
def _onednn() -> Iterator[None]:
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made at run time
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@functools.cache
def onednn_is_exact() -> bool:
    """Whether oneDNN has AVX-512 here and multiplies float32 in float32 although it is allowed not to."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if settings is None or settings.fp32_precision != "none":  # an older PyTorch, or the user has decided
        return False
    entries = torch.arange(256 * 256, dtype=torch.float64).reshape(256, 256)
    exact = torch.sin(entries).float()  # float32 entries that bfloat16 cannot hold
    settings.fp32_precision = "bf16"
    try:
        errors = [_relative_error(factor, exact) for factor in (exact, exact.mT)]
    finally:
        settings.fp32_precision = "none"
    return max(errors) < 1e-5


@functools.cache
def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a processor multiplies bfloat16 by instructions of its own, and oneDNN may use them.

    Nothing is timed, so that all processes on machines of one kind answer alike, however busy these are: sharded runs
    and resumed ones then take the same steps. Without such instructions oneDNN takes three to forty times as long as in
    single precision. ``PRECOND_BFLOAT16=0`` in the environment answers no everywhere, for runs that several kinds of
    machines share.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or os.environ.get(_SWITCH, "").strip() == "0":
        return False
    limit = next((os.environ[name] for name in _LIMITS if os.environ.get(name)), "")
    if limit.lower() in _WITHOUT_BFLOAT16:
        return False
    probes = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(probe is not None and probe() for probe in probes)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware."""
    if device.type not in _MULTIPLIES_BFLOAT16:  # compilers look into a dictionary, not into a cache
        _MULTIPLIES_BFLOAT16[device.type] = device.type == "cuda" or has_fast_bfloat16(device)
    return _MULTIPLIES_BFLOAT16[device.type]


def worth_bfloat16(device: torch.device, work: int) -> bool:
    """Whether a device multiplies bfloat16 in hardware, and a product is large enough to gain by it.

    Args:
        device: Where the factors are.
        work: Multiplications for one member of the batch: so members are treated alike, whoever shares their batch.

    Returns:
        Whether to multiply in bfloat16 what may be multiplied so; small products in single precision lose nothing.
    """
    return multiplies_bfloat16(device) and (device.type != "cpu" or work >= _LEAST_HALF)


def multiplied(a: Tensor, b: Tensor, half: bool = False) -> Tensor:
    """Return the products ``a b`` of batches of matrices.

    Args:
        a: Shape ``[batch, n, k]``.
        b: Shape ``[batch, k, m]``.
        half: Multiply in bfloat16, and return it; else the product is of the dtype of ``b``.

    Returns:
        Shape ``[batch, n, m]``.
    """
    if half:
        return torch.bmm(a.bfloat16(), b.bfloat16())
    with fast_products(b, b.numel() * a.shape[-2]):
        return torch.bmm(a.to(b.dtype), b)


def _relative_error(a: Tensor, b: Tensor) -> float:
    exact = a.double() @ b.double()
    return float(torch.linalg.norm(a @ b - exact) / torch.linalg.norm(exact))
