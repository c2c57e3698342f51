"""Codes of few bits: tables of numbers in ``[-1, 1]``, and how to round to them."""

from __future__ import annotations

import abc
import dataclasses
import functools
from itertools import pairwise
from statistics import NormalDist
from typing import final

import torch
from torch import Tensor


class Code(abc.ABC):
    """A table of at most ``2^bits`` numbers in ``[-1, 1]``, with ``1`` and ``0`` among them.

    Subclasses are frozen dataclasses, so that codes can be compared, printed and used as keys.
    """

    bits: int

    @abc.abstractmethod
    def values(self) -> tuple[float, ...]:
        """Return the numbers, ascending; a code is the index of one."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (``uint8``) of numbers in ``[-1, 1]``; may overwrite ``x``."""

    def decode(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the numbers of codes, in the shape of ``codes``."""
        table = _table(self, dtype, codes.device)
        return table.index_select(0, codes.flatten().to(torch.int32)).view(codes.shape)


@final
@dataclasses.dataclass(frozen=True)
class Power(Code):
    """Powers of evenly spaced numbers: ``sign(c) (|c| / k)^power`` for ``c`` from ``-k`` to ``k``, or from 0.

    A power above 1 spends the codes on small numbers: near ``x`` two neighbours differ by about
    ``power / k x^(1 - 1/power)``. Rounded are the roots, not the powers. Without sign, what is not zero never becomes
    zero.

    Attributes:
        bits: 4 or 8.
        power: Exponent, at least 1.
        signed: Whether there are negative numbers.
    """

    bits: int = 8
    power: int = 2
    signed: bool = True

    @property
    def _steps(self) -> int:
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    def values(self) -> tuple[float, ...]:
        """Return the powers."""
        k = self._steps
        positive = [(c / k) ** self.power for c in range(k + 1)]
        return tuple([-value for value in positive[:0:-1]] + positive if self.signed else positive)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of the nearest roots."""
        k = self._steps
        if not self.signed:
            root = _root(x, self.power).mul_(k).round_()
            return root.clamp_(min=0).maximum(x > 0).to(torch.uint8)
        root = x if self.power == 1 else _root(x.abs(), self.power).copysign_(x)
        return root.mul(k).round_().add_(k).to(torch.uint8)

    def decode(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the powers, which is faster than to look them up."""
        x = codes.to(dtype)
        x = (x.sub_(self._steps) if self.signed else x).div_(self._steps)
        if self.power == 1:
            return x
        if self.power == 2:
            return x.mul_(x.abs())
        power = x.square().square_() if self.power == 4 else x.abs().pow_(self.power)
        return power.copysign_(x) if self.signed else power


@final
@dataclasses.dataclass(frozen=True)
class Book(Code):
    """A table written out, to whose nearest entry is rounded.

    Attributes:
        bits: So many index the table.
        entries: The numbers, ascending.
    """

    bits: int
    entries: tuple[float, ...]

    def values(self) -> tuple[float, ...]:
        """Return the entries."""
        return self.entries

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of the nearest entries; the lower one half way between two."""
        middles = x.new_tensor([(low + high) / 2 for low, high in pairwise(self.entries)])
        return torch.bucketize(x, middles, out_int32=True).to(torch.uint8)


def linear_square(bits: int = 4) -> Book:
    """Return the code of signed squares of evenly spaced numbers, of which one is replaced by zero.

    Source: "linear-2" of Wang et al. (arXiv 2405.18144).

    Args:
        bits: Of a code.

    Returns:
        The code.
    """
    count = 2**bits
    spaced = [2 * i / (count - 1) - 1 for i in range(count)]
    spaced[count // 2 - 1] = 0.0
    return Book(bits, tuple(x * abs(x) for x in spaced))


def normal_quantiles() -> Book:
    """Return the code of four bits whose entries a normal variable of matching size takes about equally often.

    Entries of orthogonal matrices are nearly normal.

    Source: "NF4" of Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314.

    Returns:
        The code.
    """
    edge = 0.5 * (1 / 32 + 1 / 30)
    quantile = NormalDist().inv_cdf
    above = [quantile(0.5 + (0.5 - edge) * i / 8) for i in range(9)]
    below = [-quantile(0.5 + (0.5 - edge) * i / 7) for i in range(7, 0, -1)]
    return Book(4, tuple(x / above[-1] for x in below + above))


def dynamic_tree(bits: int = 4) -> Book:
    """Return the signed code whose leading zeros count powers of ten and whose other bits divide the decade.

    Source: T. Dettmers, "8-bit approximations for parallelism in deep learning", arXiv 1511.04561.

    Args:
        bits: Of a code.

    Returns:
        The code.
    """
    entries = [0.0, 1.0]
    for i in range(bits - 1):
        parts = 2**i
        edges = [0.1 + 0.9 * j / parts for j in range(parts + 1)]
        means = [10.0 ** (i - bits + 2) * (low + high) / 2 for low, high in pairwise(edges)]
        entries += [sign * mean for mean in means for sign in (1.0, -1.0)]
    return Book(bits, tuple(sorted(entries)))


def pack_nibbles(codes: Tensor) -> Tensor:
    """Return codes of four bits two to a byte: shape ``[..., 2 n]`` becomes ``[..., n]``."""
    half = codes.shape[-1] // 2
    return codes[..., :half] | (codes[..., half:] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Return what `pack_nibbles` packed."""
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def _root(x: Tensor, power: int) -> Tensor:
    """Return a new tensor with the roots of numbers that are not negative."""
    if power == 1:
        return x.clone()
    if power == 2:
        return x.sqrt()
    return x.sqrt().sqrt_() if power == 4 else x.pow(1.0 / power)


@functools.lru_cache(maxsize=64)
def _table(code: Code, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(code.values(), dtype=dtype, device=device)
