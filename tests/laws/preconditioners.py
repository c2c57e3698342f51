"""The laws of preconditioners, as functions of a part: each raises `AssertionError` where a part breaks it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from precond.core import Evidence, Need, PrecondError, Preconditioner, named_tensors
from precond.operators import GramOperator, as_operator
from tests.laws.feed import (
    addresses,
    equal,
    fed,
    feed,
    member,
    random,
    shapes,
    snapshot,
    spd,
    stream,
    takes_operator,
    tensors_of,
)  # fmt: skip

F64 = torch.float64
Part = Preconditioner[Any]
Shape = tuple[int, ...]


def init_reads_no_values(part: Part, shape: Shape, seed: int) -> None:
    """`init` allocates the same state from any values, on the meta device too, with the batch as leading axis."""
    zeros = torch.zeros((3, *shape), dtype=F64)
    from_zeros, from_nan = part.init(zeros), part.init(torch.full_like(zeros, torch.nan))
    assert equal(snapshot(from_zeros), snapshot(from_nan)), "init reads the values of its argument"
    on_meta = dict(named_tensors(part.init(zeros.to("meta"))))
    for key, tensor in named_tensors(from_zeros):
        assert tensor.shape[:1] == (3,), f"{key} has shape {tuple(tensor.shape)}: the batch must be the leading axis"
        assert on_meta[key].is_meta, f"{key} does not follow the device of the argument"
        assert on_meta[key].shape == tensor.shape, f"{key} has another shape on the meta device"


def linear(part: Part, shape: Shape, seed: int) -> None:
    """A part that says so is linear."""
    if part.traits.linear:
        state = fed(part, 2, shape, seed, F64)
        u, v = random((2, *shape), seed + 1), random((2, *shape), seed + 2)
        combined = part.apply(state, 2 * u - 3 * v)
        _close(combined, 2 * part.apply(state, u) - 3 * part.apply(state, v), "apply is not linear")


def symmetric(part: Part, shape: Shape, seed: int) -> None:
    """A part that says so is symmetric: ``<u, P v> = <P u, v>`` for each member."""
    if part.traits.symmetric:
        state = fed(part, 2, shape, seed, F64)
        u, v = random((2, *shape), seed + 1), random((2, *shape), seed + 2)
        left, right = _inner(u, part.apply(state, v)), _inner(part.apply(state, u), v)
        scale = u.flatten(1).norm(dim=1) * part.apply(state, v).flatten(1).norm(dim=1)
        assert bool(((left - right).abs() <= 1e-8 * scale).all()), f"not symmetric: {left} against {right}"


def definite(part: Part, shape: Shape, seed: int) -> None:
    """A part that says so is positive definite: ``<v, P v> > 0``."""
    if part.traits.definite:
        state = fed(part, 2, shape, seed, F64)
        for shift in range(4):
            v = random((2, *shape), seed + shift)
            value = _inner(v, part.apply(state, v))
            assert bool((value > 0).all()), f"<v, P v> = {value}"


def apply_writes_nothing(part: Part, shape: Shape, seed: int) -> None:
    """`apply` leaves state and argument as they are, returns the argument's shape and dtype, and repeats itself."""
    state = fed(part, 2, shape, seed, F64)
    v = random((2, *shape), seed + 1)
    kept, before = v.clone(), snapshot(state)
    first = part.apply(state, v).clone()
    assert torch.equal(v, kept), "apply writes to its argument"
    assert equal(before, snapshot(state)), "apply writes to the state"
    assert first.shape == v.shape, f"apply returns shape {tuple(first.shape)} for {tuple(v.shape)}"
    assert first.dtype == v.dtype, f"apply returns {first.dtype} for {v.dtype}"
    assert torch.equal(first, part.apply(state, v)), "the same argument gives another result"


def in_place(part: Part, shape: Shape, seed: int) -> None:
    """`prime`, `observe` and `refresh` keep every tensor where it is, and never write to the evidence."""
    state = part.init(torch.zeros((2, *shape), dtype=F64))
    before = addresses(state)
    for record in stream(2, shape, seed):
        kept = tensors_of(record)
        feed(part, state, [record])
        assert equal(kept, tensors_of(record)), "the evidence was written to"
        if not takes_operator(part):  # factors of a matrix have a size that only the matrix tells
            assert addresses(state) == before, "a tensor of the state was replaced instead of written to"


def members_do_not_interact(part: Part, shape: Shape, seed: int) -> None:
    """A batch of three equals three batches of one."""
    records = list(stream(3, shape, seed))
    together = feed(part, part.init(torch.zeros((3, *shape), dtype=F64)), records)
    v = random((3, *shape), seed + 1)
    whole = part.apply(together, v)
    for index in range(3):
        alone = part.init(torch.zeros((1, *shape), dtype=F64))
        feed(part, alone, [member(record, index) for record in records])
        _close(whole[index : index + 1], part.apply(alone, v[index : index + 1]), f"member {index} differs alone")


def survives_bad_evidence(part: Part, shape: Shape, seed: int) -> None:
    """Zero, huge, infinite and NaN evidence of one member neither raises nor touches the other member."""
    if takes_operator(part):
        _survives_bad_operators(part, shape)
        return
    good = list(stream(2, shape, seed))
    v = random((2, *shape), seed + 1)
    expected = part.apply(feed(part, part.init(torch.zeros_like(v)), good), v)[1]
    for bad in (0.0, 1e200, torch.inf, torch.nan):
        records = [_spoil(record, bad) for record in good]
        state = feed(part, part.init(torch.zeros_like(v)), records)
        result = part.apply(state, v)
        _close(result[1], expected, f"evidence {bad} of one member changes another")
        if bad == 0.0:
            assert bool(torch.isfinite(result).all()), "zero evidence gives a result that is not finite"


def keeps_dtype(part: Part, shape: Shape, seed: int) -> None:
    """State and result follow the dtype of the working vectors, and float32 agrees with float64 to its precision."""
    v = random((2, *shape), seed + 1)
    exact = part.apply(fed(part, 2, shape, seed, F64), v)
    rounded = part.apply(fed(part, 2, shape, seed, torch.float32), v.float())
    assert rounded.dtype == torch.float32, f"float32 became {rounded.dtype}"
    error = (rounded.double() - exact).norm() / exact.norm()
    assert error < 2e-2, f"float32 differs from float64 by {error:.1e}"


def shift_is_honoured_or_refused(part: Part, shape: Shape, seed: int) -> None:
    """``apply(v, shift)`` inverts ``B + shift M`` where the part says that it can, and refuses clearly where not."""
    state = fed(part, 1, shape, seed, F64)
    v, shift = random((1, *shape), seed + 1), 0.7
    if not part.traits.shiftable:
        try:
            part.apply(state, v, shift=shift)
        except PrecondError:
            return
        raise AssertionError("a shift is ignored: raise IncompatibleError, or declare the part shiftable")
    if not part.traits.linear:
        return
    unit = torch.eye(v.numel(), dtype=F64)
    inverse = torch.stack([part.apply(state, e.view(1, *shape)).flatten() for e in unit], dim=1)
    u = part.apply(state, v, shift=shift)
    metric, u = part.metric(state, u).flatten(), u.flatten()
    _close(torch.linalg.solve(inverse, u) + shift * metric, v.flatten(), "(B + shift M) apply(v, shift) is not v")


def exact_is_the_inverse(part: Part, shape: Shape, seed: int) -> None:
    """A part that says that it is exact gives back what the last definite operator has multiplied."""
    if not part.traits.exact:
        return
    root, v = random((5, 5), seed), random((1, 5), seed + 1)
    operator = as_operator(root @ root.mT + torch.eye(5, dtype=F64))
    state = part.init(torch.zeros_like(v))
    part.observe(state, Evidence(operator=operator))
    part.refresh(state)
    _close(part.apply(state, operator.matvec(v)), v, "apply is not the inverse")


def odd_shapes_are_taken_or_refused(part: Part, shape: Shape, seed: int) -> None:
    """Vectors, convolution kernels and single numbers either work or end in a clear error at `init`."""
    if takes_operator(part):
        return
    for odd in [(1,), (5,), (1, 4), (4, 1), (2, 3, 2), (2, 3, 2, 2)]:
        v = random((2, *odd), seed)
        try:
            state = part.init(torch.zeros_like(v))
        except PrecondError:
            continue
        feed(part, state, list(stream(2, odd, seed)))
        result = part.apply(state, v)
        assert result.shape == v.shape, f"shape {odd} becomes {tuple(result.shape)}"
        assert bool(torch.isfinite(result).all()), f"shape {odd} gives a result that is not finite"


def elementwise_form_is_elementwise(part: Part, shape: Shape, seed: int) -> None:
    """What a part gives for its elementwise form is elementwise, and runs on what the part itself is fed."""
    form = part.elementwise
    if form is None or form is part:
        return
    assert form.needs in part.needs, "the elementwise form needs more than the part"
    like = torch.zeros((2, 5), dtype=F64)
    state = form.init(like)
    assert all(t[0].numel() <= 5 for t in snapshot(state).values()), "the elementwise form keeps more than vectors"
    feed(form, state, list(stream(2, (5,), seed)))
    assert bool(torch.isfinite(form.apply(state, torch.ones_like(like))).all())


LAWS = [
    init_reads_no_values,
    linear,
    symmetric,
    definite,
    apply_writes_nothing,
    in_place,
    members_do_not_interact,
    survives_bad_evidence,
    keeps_dtype,
    shift_is_honoured_or_refused,
    exact_is_the_inverse,
    odd_shapes_are_taken_or_refused,
    elementwise_form_is_elementwise,
]


def _spoil(record: Evidence, value: float) -> Evidence:
    """Replace what member 0 shows."""

    def spoil(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[0] = value
        return tensor

    return dataclasses.replace(
        record,
        gradient=spoil(record.gradient),
        previous=spoil(record.previous),
        probe=tuple(map(spoil, record.probe)),
        secant=tuple(map(spoil, record.secant)),
    )


def _survives_bad_operators(part: Part, shape: Shape) -> None:
    """Refresh on a singular, an indefinite and a badly scaled matrix reports rather than raises."""
    n = shape[0]
    matrices = [torch.zeros(n, n, dtype=F64), -spd(n, 1), 1e150 * spd(n, 1), 1e-150 * spd(n, 1), torch.ones(n, n) * 1.0]
    for matrix in matrices:
        state = part.init(torch.zeros(1, n, dtype=F64))
        operator = as_operator(matrix.to(F64), symmetric=True)
        part.observe(state, Evidence(operator=GramOperator(operator) if Need.ROOT in part.needs else operator))
        part.refresh(state)
        part.apply(state, torch.ones(1, n, dtype=F64))


def _inner(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).flatten(1).sum(1)


def _close(actual: Tensor, expected: Tensor, message: str) -> None:
    error = (actual - expected).norm() / (expected.norm() + 1e-300)
    assert error < 1e-7, f"{message} (relative difference {error:.1e})"


__all__ = ["LAWS", "Need", "shapes"]
