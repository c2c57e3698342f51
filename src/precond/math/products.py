"""Which kernels multiply single-precision matrices on a processor.

PyTorch multiplies float32 matrices with MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN, which
PyTorch carries too, uses AVX-512 wherever it is, at about twice the speed. PyTorch takes oneDNN when it is allowed to
round factors to bfloat16, and oneDNN rounds only where the processor has tile units for it. So it is allowed where
a product of known matrices shows that nothing is rounded, and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

import torch
from torch import Tensor

_MULTIPLIES_BFLOAT16: dict[str, bool] = {}
_LEAST_WORK = 2**21
"""Multiplications below which the dearer call of oneDNN does not pay."""
_CLOSE = 1.3
"""Native products take two thirds of the time, emulated ones three times as long: a bound between them decides alike
whatever else a machine does."""
_PROBED = 192
"""Side of the matrices whose products are timed."""


@contextlib.contextmanager
def fast_products(like: Tensor, work: int) -> Iterator[None]:
    """Multiply float32 matrices by the faster of the kernels that lose no precision, within the context.

    Args:
        like: A tensor with the device and dtype of the factors.
        work: Multiplications in one product, the batch included.

    Yields:
        Nothing.
    """
    if torch.compiler.is_compiling():  # who compiles opens the context around the graph
        yield
        return
    if work < _LEAST_WORK or like.dtype != torch.float32 or like.device.type != "cpu" or not onednn_is_exact():
        yield
        return
    settings = torch.backends.mkldnn.matmul
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
    """Whether a processor multiplies bfloat16 in hardware, and faster than float32.

    The instructions that it names are not enough: oneDNN may have been built or told (``ONEDNN_MAX_CPU_ISA``) to do
    without, and then takes tens of times as long as in single precision. So one small product of each is timed, once.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    probes = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if not any(probe is not None and probe() for probe in probes):
        return False
    return _seconds_of_product(torch.bfloat16) < _CLOSE * _seconds_of_product(torch.float32)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware."""
    if device.type not in _MULTIPLIES_BFLOAT16:  # compilers look into a dictionary, not into a cache
        _MULTIPLIES_BFLOAT16[device.type] = device.type == "cuda" or has_fast_bfloat16(device)
    return _MULTIPLIES_BFLOAT16[device.type]


def _seconds_of_product(dtype: torch.dtype) -> float:
    """Return the least time of a few products of small matrices, once the kernel is there."""
    factor = torch.zeros(_PROBED, _PROBED, dtype=dtype)
    taken = []
    with fast_products(factor, _LEAST_WORK):
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(factor, factor)
            taken.append(time.perf_counter() - start)
    return min(taken)


def _relative_error(a: Tensor, b: Tensor) -> float:
    exact = a.double() @ b.double()
    return float(torch.linalg.norm(a @ b - exact) / torch.linalg.norm(exact))
