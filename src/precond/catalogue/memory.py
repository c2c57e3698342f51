"""How much state a method keeps, found by building it and counting, never typed in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    Evidence,
    Iteration,
    Method,
    Need,
    Operator,
    OperatorTraits,
    Preconditioner,
    Route,
    Scope,
    named_tensors,
)  # fmt: skip

SIDE = 1024
"""Side of the square float32 parameter that stands for a weight matrix."""
GRID = 32
"""Side of the grid of the Poisson matrix that stands for a sparse system."""
ITERATIONS = 20


@dataclasses.dataclass(frozen=True)
class Memory:
    """An amount of state.

    Attributes:
        amount: How much.
        unit: ``"bytes per parameter"`` or ``"vectors"`` (of the length of the unknown).
        reference: What it was counted on.
    """

    amount: float
    unit: str
    reference: str

    def __str__(self) -> str:
        """Return the amount with its unit."""
        return f"{self.amount:.3g} {self.unit}"


def memory_of(built: Any) -> Memory:
    """Return the state kept by what a recipe built: a method, a route, an iteration or a preconditioner."""
    if isinstance(built, Route):
        parameter = torch.empty(SIDE, SIDE, device="meta")
        return memory_of(built.method_for("weight", parameter))
    if isinstance(built, Method):
        return Memory(_method_bytes(built) / SIDE**2, "bytes per parameter", f"a float32 weight of {SIDE} x {SIDE}")
    reference = f"the 5-point Laplacian on a grid of {GRID} x {GRID}"
    if isinstance(built, Iteration):
        return Memory(_iteration_bytes(built) / (8 * GRID**2), "vectors", f"{reference}, {ITERATIONS} iterations")
    if isinstance(built, Preconditioner):
        return Memory(_preconditioner_bytes(built) / (8 * GRID**2), "vectors", reference)
    raise TypeError(f"a recipe cannot build a {type(built).__name__}")


def _method_bytes(method: Method) -> int:
    """Count what the parts and the driver keep for one reference parameter, on the meta device."""
    flat = method.preconditioner.scope is Scope.GLOBAL
    like = torch.empty((1, SIDE * SIDE) if flat else (1, SIDE, SIDE), device="meta")
    parts = [method.preconditioner, *method.filters.values(), method.step]
    total = sum(_resting_bytes(method, tensor) for part in parts for _, tensor in named_tensors(part.init(like)))
    if Need.PREVIOUS in method.needs:
        total += like.numel() * like.element_size()
    return total


def _resting_bytes(method: Method, tensor: Tensor) -> int:
    resting = method.storage.allocate(tensor) if tensor.is_floating_point() else tensor
    return resting.numel() * resting.element_size()


def _preconditioner_bytes(preconditioner: Preconditioner[Any]) -> int:
    operator, like = _Laplacian(), torch.zeros(1, GRID**2, dtype=torch.float64)
    state = preconditioner.init(like)
    preconditioner.observe(state, Evidence(operator=operator))
    preconditioner.refresh(state)
    return _bytes(state, apart_from=(operator,))


def _iteration_bytes(iteration: Iteration) -> int:
    """Count the tensors alive in the suspended generator after a few iterations."""
    operator = _Laplacian()
    b, x0 = torch.ones(1, GRID**2, dtype=torch.float64), torch.zeros(1, GRID**2, dtype=torch.float64)
    running = iteration.iterate(operator, b, lambda v: v, x0)
    held = 0
    for _ in zip(range(ITERATIONS + 1), running, strict=False):
        held = max(held, _bytes(list(_frames(running)), apart_from=(operator, b, x0)))
    return held


def _frames(generator: Any) -> Iterator[dict[str, Any]]:
    while isinstance(generator, GeneratorType) and generator.gi_frame is not None:
        yield dict(generator.gi_frame.f_locals)
        generator = generator.gi_yieldfrom


def _bytes(root: Any, apart_from: tuple[Any, ...]) -> int:
    """Add up the storages of tensors, arrays and sparse matrices reachable from ``root``, each once."""
    seen = {id(thing) for thing in apart_from}
    blocks: dict[int, int] = {}
    borrowed = {t.untyped_storage().data_ptr() for t in apart_from if isinstance(t, Tensor)}
    stack = [root]
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            blocks[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif hasattr(thing, "__array_interface__"):
            blocks[thing.__array_interface__["data"][0]] = int(thing.nbytes)
        elif isinstance(thing, dict):
            stack.extend(thing.values())
        elif isinstance(thing, (list, tuple)):
            stack.extend(thing)
        elif dataclasses.is_dataclass(thing) or hasattr(thing, "indptr"):
            stack.extend(vars(thing).values())
    return sum(size for start, size in blocks.items() if start not in borrowed)


class _Laplacian(Operator):
    """The 5-point Laplacian with Dirichlet boundaries, symmetric and positive definite."""

    def __init__(self) -> None:
        self.shape = (GRID**2, GRID**2)
        self.dtype, self.device = torch.float64, torch.device("cpu")
        self.traits = OperatorTraits(symmetric=True, definite=True)

    def matvec(self, x: Tensor) -> Tensor:
        grid = torch.nn.functional.pad(x.view(-1, GRID, GRID), (1, 1, 1, 1))
        inner = 4 * grid[:, 1:-1, 1:-1]
        around = grid[:, :-2, 1:-1] + grid[:, 2:, 1:-1] + grid[:, 1:-1, :-2] + grid[:, 1:-1, 2:]
        return (inner - around).view_as(x)

    def entries(self) -> Any:
        import scipy.sparse as sparse

        line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(GRID, GRID))
        eye = sparse.eye_array(GRID)
        matrix = sparse.csr_array(sparse.kron(line, eye) + sparse.kron(eye, line))
        matrix.sort_indices()
        return matrix
