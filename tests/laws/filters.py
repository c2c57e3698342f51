"""The laws of filters, as functions of a part."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from precond.core import Evidence, Filter, named_tensors
from tests.laws.feed import addresses, equal, evidence, member, random, snapshot, tensors_of

F64 = torch.float64
Part = Filter[Any]
Shape = tuple[int, ...]
STEPS = 5


def init_reads_no_values(part: Part, shape: Shape, seed: int) -> None:
    """`init` allocates the same state from any values, on the meta device too, with the batch as leading axis."""
    zeros = torch.zeros((3, *shape), dtype=F64)
    from_zeros = part.init(zeros)
    assert equal(snapshot(from_zeros), snapshot(part.init(torch.full_like(zeros, torch.nan)))), "init reads values"
    on_meta = dict(named_tensors(part.init(zeros.to("meta"))))
    for key, tensor in named_tensors(from_zeros):
        assert tensor.shape[:1] == (3,), f"{key} has shape {tuple(tensor.shape)}: the batch must be the leading axis"
        assert on_meta[key].is_meta, f"{key} does not follow the device of the argument"


def push_writes_only_the_state(part: Part, shape: Shape, seed: int) -> None:
    """`push` leaves its arguments alone, keeps every tensor of the state where it is, and keeps the shape."""
    state = part.init(torch.zeros((2, *shape), dtype=F64))
    before = addresses(state)
    for step in range(STEPS):
        record, v = evidence(2, shape, seed + step), random((2, *shape), seed + 90 + step)
        kept, kept_v = tensors_of(record), v.clone()
        result = part.push(state, v, record)
        assert torch.equal(v, kept_v), "push writes to its argument"
        assert equal(kept, tensors_of(record)), "push writes to the evidence"
        assert addresses(state) == before, "a tensor of the state was replaced instead of written to"
        assert result.shape == v.shape, f"push returns shape {tuple(result.shape)}"
        assert bool(torch.isfinite(result).all()), "push returns what is not finite"


def members_do_not_interact(part: Part, shape: Shape, seed: int) -> None:
    """A batch of three equals three batches of one."""
    vectors = [random((3, *shape), seed + step) for step in range(STEPS)]
    records = [evidence(3, shape, seed + step) for step in range(STEPS)]
    whole = _run(part, vectors, records)
    for index in range(3):
        take = slice(index, index + 1)
        alone = _run(part, [v[take] for v in vectors], [member(record, index) for record in records])
        torch.testing.assert_close(whole[take], alone, rtol=1e-9, atol=1e-12)


def survives_bad_evidence(part: Part, shape: Shape, seed: int) -> None:
    """Zero, huge, infinite and NaN vectors of one member neither raise nor touch the other member."""
    vectors = [random((2, *shape), seed + step) for step in range(STEPS)]
    records = [evidence(2, shape, seed + step) for step in range(STEPS)]
    expected = _run(part, vectors, records)[1]
    for bad in (0.0, 1e200, torch.inf, torch.nan):
        spoiled = [_spoil(v, bad) for v in vectors]
        bad_records = [
            dataclasses.replace(r, gradient=_spoil(r.gradient, bad), previous=_spoil(r.previous, bad)) for r in records
        ]
        result = _run(part, spoiled, bad_records)
        torch.testing.assert_close(result[1], expected, rtol=1e-9, atol=1e-12)
        if bad == 0.0:
            assert bool(torch.isfinite(result).all()), "zero vectors give a result that is not finite"


def keeps_dtype(part: Part, shape: Shape, seed: int) -> None:
    """The result has the dtype of the vectors."""
    for dtype in (torch.float32, F64):
        vectors = [random((2, *shape), seed + step, dtype) for step in range(STEPS)]
        result = _run(part, vectors, [evidence(2, shape, seed + step, dtype) for step in range(STEPS)])
        assert result.dtype == dtype, f"{dtype} became {result.dtype}"


def turns_along(part: Part, shape: Shape, seed: int) -> None:
    """A filter that says it is equivariant commutes with orthogonal maps, and looks at no evidence."""
    if not part.equivariant:
        return
    vectors = [random((2, *shape), seed + step) for step in range(STEPS)]
    records = [evidence(2, shape, seed + step) for step in range(STEPS)]
    size = vectors[0][0].numel()
    q = torch.linalg.qr(random((size, size), seed + 77)).Q

    def turn(v: Tensor) -> Tensor:
        return (v.flatten(1) @ q.mT).view(v.shape)

    expected = turn(_run(part, vectors, records))
    result = _run(part, [turn(v) for v in vectors], [Evidence() for _ in records])
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


LAWS = [
    init_reads_no_values,
    push_writes_only_the_state,
    members_do_not_interact,
    survives_bad_evidence,
    keeps_dtype,
    turns_along,
]


def _run(part: Part, vectors: list[Tensor], records: list[Evidence]) -> Tensor:
    state = part.init(torch.zeros_like(vectors[0]))
    result = vectors[0]
    for v, record in zip(vectors, records, strict=True):
        result = part.push(state, v, record)
    return result


def _spoil(tensor: Tensor, value: float) -> Tensor:
    tensor = tensor.clone()
    tensor[0] = value
    return tensor
