"""Block coordinate descent: a rule that chooses blocks, and a rule that updates them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

from torch import Tensor

from precond.core import BadInputError, Composite, CompositeIteration, Coordinates, Objective, Standing, Status, rows_of
from precond.proximal.rules import Rule, Variable
from precond.proximal.updates import MatrixBound, Update


@final
@dataclasses.dataclass(frozen=True)
class BlockDescent(CompositeIteration):
    """Choose a block, update it, again and again.

    Attributes:
        rule: Which block.
        update: How.
        size: Variables of a block.
        every: Updates between two standings; ``None``: one for greedy rules, otherwise the number of blocks.
    """

    separable: ClassVar[bool] = True
    rule: Rule = Variable()
    update: Update = MatrixBound()
    size: int = 5
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size < 1:
            raise BadInputError(f"a block must have at least one variable, not {self.size}")

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield a point with its gradient after so many updates."""
        coordinates = problem.smooth.coordinates(x0) or ObjectiveCoordinates(problem.smooth, x0)
        penalty, n = problem.penalty, x0.numel()
        size = min(self.size, max(n, 1))
        spot = problem.known(coordinates.x.clone(), coordinates.value(), coordinates.gradient())
        yield Standing.at(spot)
        if n == 0:
            return
        choose, step = self.rule.start(coordinates, penalty, size), self.update.start()
        every = self.every or (1 if self.rule.greedy else -(-n // size))
        stuck = 0
        while True:
            for update in range(every):
                if self.rule.greedy and update:
                    spot = problem.known(coordinates.x.clone(), spot.loss, coordinates.gradient())
                greedy = self.rule.greedy
                block = choose(spot.gradient, spot.slack) if greedy else choose(None, None)
                gradient = spot.gradient[block] if greedy else coordinates.partial(block)
                d = step(coordinates, penalty.at(block), block, gradient)
                stuck = stuck + 1 if d is None else 0
                if d is not None:
                    coordinates.move(block, d)
            spot = problem.known(coordinates.x.clone(), coordinates.value(), coordinates.gradient())
            failed = stuck > 2 * -(-n // size)
            yield Standing.at(spot, {"block": float(size)}, Status.FAILED_LINE_SEARCH if failed else None)


class ObjectiveCoordinates(Coordinates):
    """A smooth function without structure: every part of a gradient costs the whole.

    Args:
        objective: The function.
        x: The starting point, ``[n]``.
    """

    def __init__(self, objective: Objective, x: Tensor) -> None:
        super().__init__(x)
        self._objective = objective
        self._row = self.x[None].clone()
        self._point = objective.point(self._row)

    @property
    def cheap(self) -> bool:
        """Whether parts of the gradient are cheap: they are not."""
        return False

    def value(self) -> Tensor:
        """Return the function here."""
        return self._point.loss

    def trial(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the function after a move, and count a loss."""
        moved = self.x.index_add(0, block, d)
        return self._objective.value(moved[None])

    def gradient(self) -> Tensor:
        """Return the gradient here."""
        return self._point.gradient[0]

    def partial(self, block: Tensor) -> Tensor:
        """Return a part of it."""
        return self._point.gradient[0, block]

    def hessian(self, block: Tensor) -> Tensor:
        """Return the Hessian of a block, by products."""
        rows = rows_of(self._objective.hessian(self._row), block)[:, block]
        return (rows + rows.mT) / 2

    def move(self, block: Tensor, d: Tensor) -> None:
        """Move, and evaluate there."""
        self.x[block] += d
        self._row = self.x[None].clone()
        self._point = self._objective.point(self._row)
