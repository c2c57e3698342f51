"""How much state a method keeps, found by building it and counting, never typed in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import (
    Composite,
    CompositeIteration,
    Evidence,
    FixedPointIteration,
    Iteration,
    Method,
    Need,
    Operator,
    Preconditioner,
    ProgramIteration,
    Route,
    Scope,
)
from precond.losses import LeastSquares
from precond.operators import GramOperator, as_operator
from precond.optim.memory import estimate_memory
from precond.penalties import L1
from precond.solvers.programs.by_torch import TorchProgram

SIDE = 1024
"""Side of the square float32 parameter that stands for a weight matrix."""
GRID = 32
VARIABLES, EQUATIONS = 64, 16
"""Size of the program that stands for constrained problems."""
TALL = (2000, 50)
"""Side of the grid of the Poisson matrix that stands for a sparse system."""
ITERATIONS = 20
"""Iterations after which the vectors held by an iteration are counted."""


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
        return f"{self.amount:.3g} {self.unit.removesuffix('s') if self.amount == 1 else self.unit}"

    @property
    def short(self) -> str:
        """The amount in a few characters, for tables."""
        return str(self).replace("bytes per parameter", "B/param")


def memory_of(built: Any) -> Memory:
    """Return the state kept by what a recipe built: a method, a route, an iteration or a preconditioner."""
    if isinstance(built, Method | Route):
        inner = 4 * sum(_iteration_vectors(iteration) for iteration in _iterations(built))
        reference = f"a float32 weight of {SIDE} x {SIDE}" + (
            ", the vectors of the inner solve included" if inner else ""
        )
        return Memory(_per_parameter(built) + inner, "bytes per parameter", reference)
    reference = f"the 5-point Laplacian on a grid of {GRID} x {GRID}"
    if isinstance(built, Iteration):
        return Memory(_iteration_vectors(built), "vectors", f"{reference} after {ITERATIONS} iterations")
    if isinstance(built, Preconditioner) and Need.ROOT in built.needs:
        gram = GramOperator(as_operator(torch.ones(TALL).double().cumsum(0)))
        return Memory(_preconditioner_vectors(built, gram), "vectors", f"a dense matrix of {TALL[0]} x {TALL[1]}")
    if isinstance(built, Preconditioner):
        return Memory(_preconditioner_vectors(built, _laplacian()), "vectors", reference)
    if isinstance(built, ProgramIteration):
        where = f"a program of {VARIABLES} variables and {EQUATIONS} equations, first derivatives and matrices included"
        return Memory(_program_vectors(built), "vectors", where)
    if isinstance(built, CompositeIteration):
        where = f"a linear model of {2 * VARIABLES} rows and {VARIABLES} variables with an l1 penalty"
        return Memory(_composite_vectors(built), "vectors", where)
    if isinstance(built, FixedPointIteration):
        return Memory(_fixed_point_vectors(built), "vectors", f"a map of {VARIABLES} numbers, {ITERATIONS} evaluations")
    raise TypeError(f"a recipe cannot build a {type(built).__name__}")


def _iterations(part: Any) -> Iterator[Iteration]:
    """Yield the iterations that a method's parts are made of."""
    if isinstance(part, Iteration):
        yield part
    elif dataclasses.is_dataclass(part):
        for child in vars(part).values():
            yield from _iterations(child)


def _per_parameter(method: Method | Route) -> float:
    flat = isinstance(method, Method) and method.scope is Scope.GLOBAL
    weight = torch.empty((SIDE**2,) if flat else (SIDE, SIDE), device="meta", requires_grad=True)
    return estimate_memory([("weight", weight)], method) / SIDE**2


def _preconditioner_vectors(preconditioner: Preconditioner[Any], operator: Operator) -> float:
    n = operator.shape[1]
    like = torch.zeros(1, n, dtype=torch.float64)
    state = preconditioner.init(like)
    preconditioner.observe(state, Evidence(operator=operator))
    preconditioner.refresh(state)
    return _bytes(state, borrowed=(operator,)) / (8 * n)


def _iteration_vectors(iteration: Iteration) -> float:
    """Count the vectors alive in the suspended generator after a few iterations, the right-hand side apart."""
    operator = _laplacian()
    b, x0 = torch.ones(1, GRID**2, dtype=torch.float64), torch.zeros(1, GRID**2, dtype=torch.float64)
    running = iteration.iterate(operator, b, torch.clone, x0)
    held = 0
    for _ in zip(range(ITERATIONS + 1), running, strict=False):
        held = max(held, _bytes(list(_frames(running)), borrowed=(operator, b, x0)))
    return held / (8 * GRID**2)


def _program_vectors(iteration: ProgramIteration) -> float:
    """Count the vectors alive in the suspended generator after its first iteration."""
    free = torch.full((VARIABLES,), torch.inf, dtype=torch.float64)
    rows = torch.eye(EQUATIONS, VARIABLES, dtype=torch.float64)
    program = TorchProgram(lambda x: x.cosh().sum(), lambda x: rows @ x - 1, -free, free, EQUATIONS)
    running = iteration.iterate(program, torch.zeros_like(free), 1e-6)
    held = 0
    for _ in zip(range(2), running, strict=False):
        held = max(held, _bytes(list(_frames(running)), borrowed=(program,)))
    return held / (8 * (VARIABLES + EQUATIONS))


def _composite_vectors(iteration: CompositeIteration) -> float:
    """Count the vectors alive in the suspended generator after a few steps, the data apart."""
    rows = torch.sin(torch.arange(2.0 * VARIABLES**2, dtype=torch.float64)).reshape(2 * VARIABLES, VARIABLES)
    loss = LeastSquares(rows, rows[:, :8].sum(1))
    problem = Composite(loss.objective(), L1(1e-2))
    running = iteration.iterate(problem, torch.zeros(VARIABLES, dtype=torch.float64), 1e-9)
    held = 0
    for _ in zip(range(4), running, strict=False):
        held = max(held, _bytes(list(_frames(running)), borrowed=(loss, loss.b, rows)))
    return held / (8 * VARIABLES)


def _fixed_point_vectors(iteration: FixedPointIteration) -> float:
    """Count the vectors alive in the suspended generator after a few evaluations."""
    shrink = torch.linspace(0.1, 0.9, VARIABLES, dtype=torch.float64)
    running = iteration.iterate(lambda x: shrink * x + 1, torch.zeros_like(shrink))
    held = 0
    for _ in zip(range(ITERATIONS), running, strict=False):
        held = max(held, _bytes(list(_frames(running)), borrowed=(shrink,)))
    return held / (8 * VARIABLES)


def _frames(generator: Any) -> Iterator[dict[str, Any]]:
    """Yield the local variables of a suspended generator and of those it delegates to."""
    while isinstance(generator, GeneratorType) and generator.gi_frame is not None:
        yield dict(generator.gi_frame.f_locals)
        generator = generator.gi_yieldfrom


def _bytes(root: Any, borrowed: tuple[Any, ...]) -> int:
    """Add up the storage of tensors and arrays reachable from ``root``, each once, borrowed ones apart."""
    seen = {id(thing) for thing in borrowed}
    apart = {thing.data_ptr() for thing in borrowed if isinstance(thing, Tensor)}
    blocks: dict[int, int] = {}
    stack = [root]
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            start, size = thing.untyped_storage().data_ptr(), thing.untyped_storage().nbytes()
            blocks[start] = max(blocks.get(start, 0), size)
        elif isinstance(thing, np.ndarray):  # a scalar's memory is a copy, made when asked for, at any address
            start = thing.__array_interface__["data"][0]
            blocks[start] = max(blocks.get(start, 0), thing.nbytes)
        elif isinstance(thing, dict):
            stack.extend(thing.values())
        elif isinstance(thing, list | tuple):
            stack.extend(thing)
        elif hasattr(thing, "__dict__") and (
            type(thing).__module__.startswith("precond.") or scipy.sparse.issparse(thing)
        ):
            stack.extend(vars(thing).values())
    return sum(size for start, size in blocks.items() if start not in apart)


def _laplacian() -> Operator:
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(GRID, GRID))
    eye = scipy.sparse.eye_array(GRID)
    matrix = scipy.sparse.csr_array(scipy.sparse.kron(line, eye) + scipy.sparse.kron(eye, line))
    return as_operator(matrix, definite=True)
