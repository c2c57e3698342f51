"""Evidence for any part, made from what the part declares in ``needs``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Scope, named_tensors
from precond.operators import DenseOperator

STEPS = 8
SHAPES = {
    Scope.ELEMENTWISE: [(5,), (4, 3), (2, 3, 2)],
    Scope.MATRIX: [(4, 3), (3, 4), (3, 3)],
    Scope.GLOBAL: [(6,)],
}
"""Shapes that a part of each scope must take."""


def takes_operator(part: Any) -> bool:
    """Whether a part is fed a matrix rather than a stream of gradients."""
    return bool(part.needs & (Need.OPERATOR | Need.ENTRIES))


def shapes(part: Any) -> list[tuple[int, ...]]:
    """Return the shapes on which to try a part; filters act on anything."""
    if takes_operator(part):
        return [(6,), (1,)]
    return SHAPES[getattr(part, "scope", Scope.ELEMENTWISE)]


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a normal tensor that depends on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def spd(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a symmetric, positive definite matrix, diagonally dominant and sparse in part, ``[n, n]``."""
    factor = random((n, n), seed).tril().triu(-1)
    return (factor @ factor.T + n * torch.eye(n, dtype=torch.float64)).to(dtype)


def spd_operator(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Operator:
    """Return such a matrix as an operator with entries that knows a factor of its own."""
    return rooted(spd(n, seed, dtype))


class Rooted(DenseOperator):
    """A symmetric positive definite matrix that knows its Cholesky factor."""

    def root(self) -> Operator:
        """Return the upper triangle."""
        return DenseOperator(torch.linalg.cholesky(self.matrix).mT)


def rooted(matrix: Tensor) -> Operator:
    """Return a matrix as an operator with a factor."""
    return Rooted(matrix, symmetric=True, definite=True)


def evidence(batch: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Evidence:
    """Return one complete record for a batch of points; members are drawn apart, so slices are consistent."""
    gradient = torch.stack([random(shape, 1000 * seed + member, dtype) for member in range(batch)])
    previous = torch.stack([random(shape, 1000 * seed + 500 + member, dtype) for member in range(batch)])
    n = gradient[0].numel()
    s = torch.stack([random(shape, 7000 * seed + member, dtype) for member in range(batch)])
    hessians = [spd(n, member, dtype) for member in range(batch)]
    y = torch.stack([(h @ v.flatten()).view(shape) for h, v in zip(hessians, s, strict=True)])
    operator = spd_operator(n, dtype=dtype) if len(shape) == 1 else None
    v = torch.stack([random(shape, 9000 * seed + member, dtype) for member in range(batch)])
    hv = torch.stack([(h @ x.flatten()).view(shape) for h, x in zip(hessians, v, strict=True)])
    return Evidence(
        gradient, previous, loss=gradient.new_tensor(2.0), probe=(v, hv), secant=(s, y), operator=operator,
        lookback=0.5 * (gradient + previous), another=0.9 * gradient - 0.1 * previous,
    )  # fmt: skip


def stream(batch: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Iterator[Evidence]:
    """Yield evidence enough to make the averages of small matrices full rank."""
    for step in range(STEPS):
        yield evidence(batch, shape, seed + step + 1, dtype)


def member(record: Evidence, index: int) -> Evidence:
    """Return the evidence of one member of the batch."""
    take = slice(index, index + 1)
    return dataclasses.replace(
        record,
        gradient=record.gradient[take],
        previous=record.previous[take],
        probe=tuple(v[take] for v in record.probe),
        lookback=record.lookback[take],
        another=record.another[take],
        secant=tuple(v[take] for v in record.secant),
    )


def feed(part: Preconditioner[Any], state: Any, records: list[Evidence]) -> Any:
    """Let a preconditioner absorb evidence as a driver would, and return the state."""
    for step, record in enumerate(records):
        if step == 0:
            assert isinstance(part.prime(state, record), Health), "prime must say how it went"
        part.observe(state, record)
        part.refresh(state)
    return state


def fed(part: Preconditioner[Any], batch: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Any:
    """Return the state of a preconditioner after a stream of evidence."""
    like = torch.zeros((batch, *shape), dtype=dtype)
    return feed(part, part.init(like), list(stream(batch, shape, seed, dtype)))


def snapshot(state: Any) -> dict[str, Tensor]:
    """Return copies of all tensors of a state by name."""
    return {key: tensor.clone() for key, tensor in named_tensors(state)}


def addresses(state: Any) -> dict[str, int]:
    """Return where the tensors of a state live."""
    return {key: tensor.data_ptr() for key, tensor in named_tensors(state)}


def tensors_of(record: Evidence) -> dict[str, Tensor]:
    """Return copies of the tensors of a record."""
    return {
        "gradient": record.gradient.clone(),
        "previous": record.previous.clone(),
        "v": record.probe[0].clone(),
        "hv": record.probe[1].clone(),
        "lookback": record.lookback.clone(),
        "another": record.another.clone(),
        "s": record.secant[0].clone(),
        "y": record.secant[1].clone(),
    }


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two snapshots agree bit for bit, NaN included."""
    return first.keys() == second.keys() and all(torch.equal(_bits(first[key]), _bits(second[key])) for key in first)


def _bits(tensor: Tensor) -> Tensor:
    views = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}
    return tensor.contiguous().view(views[tensor.dtype]) if tensor.dtype in views else tensor
