"""Compression of a stream of gradients that loses nothing for good."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Filter, NoState
from precond.math.tensors.compress import Blocks, low_rank, matrix_shape, spread, starting_factor, top_k

S = TypeVar("S")


class Compressor(abc.ABC, Generic[S]):
    """A map to vectors that can be described briefly; frozen dataclasses, tensors live in ``S``."""

    @abc.abstractmethod
    def init(self, like: Tensor) -> S:
        """Allocate the state for vectors shaped ``[batch, *shape]`` like ``like``; reads no values."""

    @abc.abstractmethod
    def compress(self, state: S, v: Tensor) -> Tensor:
        """Return what is kept of ``v``, in its shape; never writes to ``v``."""


@final
@dataclasses.dataclass(frozen=True)
class TopK(Compressor[NoState]):
    """Keep the largest entries; see `precond.preconditioners.windows.SparseWindow`, whose arguments these are.

    Attributes:
        density: Share of the entries that are kept, at least one.
        block: Entries of the blocks that each keep that share; unless given, the largest of the whole vector are kept.
        half: Whether what is kept is rounded to bfloat16.
    """

    density: float = 0.01
    block: int | None = None
    half: bool = True

    def __post_init__(self) -> None:
        """Check the share and the length of blocks."""
        if not 0.0 < self.density <= 1.0 or (self.block is not None and self.block < 1):
            raise BadInputError(f"a share in (0, 1] of positive blocks is kept, not {self.density} of {self.block}")

    def init(self, like: Tensor) -> NoState:
        """Keep nothing."""
        return NoState()

    def compress(self, state: NoState, v: Tensor) -> Tensor:
        """Return the largest entries among zeros."""
        blocks = Blocks.of(v[0].numel(), self.density, self.block)
        places, values = top_k(v.flatten(1), blocks)
        kept = values.to(torch.bfloat16) if self.half else values
        return spread(places, kept, blocks, v.dtype).reshape(v.shape)


@dataclasses.dataclass
class LowRankState:
    """State of `LowRank`.

    Attributes:
        right: Right factor of the last vector, where the next subspace iteration starts, ``[batch, columns, rank]``.
    """

    right: Tensor


@final
@dataclasses.dataclass(frozen=True)
class LowRank(Compressor[LowRankState]):
    """Keep the leading singular directions of matrices, as far as one step of warm subspace iteration finds them.

    Tensors are taken as matrices of their first axis by all others. Source: PowerSGD (arXiv 1905.13727).

    Attributes:
        rank: Rank of what is kept, for matrices with sides at least as long.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise BadInputError(f"the rank must be at least 1, not {self.rank}")

    def init(self, like: Tensor) -> LowRankState:
        """Start from normal numbers."""
        m, n = matrix_shape(tuple(like.shape[1:]))
        return LowRankState(starting_factor(like.shape[0], n, min(self.rank, m, n), like))

    def compress(self, state: LowRankState, v: Tensor) -> Tensor:
        """Return a matrix of low rank, and keep its right factor."""
        matrices = v.reshape(v.shape[0], *matrix_shape(tuple(v.shape[1:])))
        left, right = low_rank(matrices, state.right)
        found = right.isfinite().flatten(1).all(1) & (right != 0).flatten(1).any(1)  # else it could not start again
        state.right.copy_(torch.where(found[:, None, None], right, state.right))
        return torch.bmm(left, right.mT).reshape(v.shape)


@dataclasses.dataclass
class ErrorFeedbackState:
    """State of `ErrorFeedback`.

    Attributes:
        error: What has been left out so far, ``[batch, *shape]``, if it is to come back.
        compressor: State of the compressor.
    """

    error: Tensor | None
    compressor: Any


@final
@dataclasses.dataclass(frozen=True)
class ErrorFeedback(Filter[ErrorFeedbackState]):
    """Compress each vector together with what was left out of those before: ``c = C(e + v)``, ``e <- e + v - c``.

    So all that came in has come out, or is in ``e``. As an estimator it shows the method compressed gradients; in
    `precond.preconditioners.observing.Observing` it shows them to the preconditioner alone. A vector with which the
    error would not be finite leaves it as it is.

    Source: EFCP (arXiv 2306.06098), Algorithm 1.

    Attributes:
        compressor: What can be kept.
        feedback: Whether what was left out comes back; without, it is lost.
    """

    compressor: Compressor[Any] = TopK()
    feedback: bool = True

    def init(self, like: Tensor) -> ErrorFeedbackState:
        """Start without an error."""
        return ErrorFeedbackState(torch.zeros_like(like) if self.feedback else None, self.compressor.init(like))

    def push(self, state: ErrorFeedbackState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return the compressed vector."""
        whole = v if state.error is None else state.error + v
        kept = self.compressor.compress(state.compressor, whole)
        if state.error is not None:
            error = whole - kept
            finite = error.flatten(1).isfinite().all(1).view(-1, *(1,) * (v.ndim - 1))
            state.error.copy_(torch.where(finite, error, state.error))
        return kept
