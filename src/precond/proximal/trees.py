"""Large blocks whose graph is a forest, solved exactly by messages from the leaves to the roots and back."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Coordinates, IncompatibleError, Penalty
from precond.math.sparse.forest import Graph
from precond.penalties.zero import Zero
from precond.proximal.partitions import Partition
from precond.proximal.rules import Choose, Rule, positive
from precond.proximal.updates import Step, Update


def graph_of(coordinates: Coordinates) -> Graph:
    """Return the graph of a quadratic function with a sparse matrix, or refuse."""
    matrix = coordinates.entries()
    if matrix is None:
        raise IncompatibleError(
            "trees are found in a sparse matrix: state the problem as precond.losses.Quadratic of one"
        )
    return Graph(matrix)


@final
@dataclasses.dataclass(frozen=True)
class GreedyForest(Rule):
    """The forest that is built by trying variables by falling score ``|s_i|``, or ``|s_i| / sqrt(L_i)``.

    Attributes:
        scaled: Whether scores are divided by the roots of the curvatures.
        limit: Largest number of variables; ``None`` means as many as there are.
    """

    greedy: ClassVar[bool] = True
    scaled: bool = True
    limit: int | None = None

    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Read the graph."""
        graph = graph_of(coordinates)
        scale = positive(coordinates.curvatures()).sqrt() if self.scaled else torch.ones_like(coordinates.x)

        def choose(gradient: Tensor | None, slack: Tensor | None) -> Tensor:
            assert slack is not None
            return graph.forest((slack.abs() / scale).argsort(descending=True), self.limit)

        return choose


@final
@dataclasses.dataclass(frozen=True)
class Forests(Partition):
    """A partition into forests, each as large as the order of the variables lets it become.

    A lattice falls into two.

    Attributes:
        independent: Into sets of variables without edges among them instead (red and black, on a lattice).
    """

    independent: bool = False

    def order(self, coordinates: Coordinates, size: int) -> Tensor:
        """Return the variables, block by block."""
        return torch.cat(self.blocks(coordinates, size))

    def blocks(self, coordinates: Coordinates, size: int) -> list[Tensor]:
        """Return the forests; the size is what it is."""
        graph = graph_of(coordinates)
        left = torch.arange(graph.nodes)
        blocks = []
        while len(left):
            blocks.append(graph.forest(left, independent=self.independent))
            left = left[~torch.isin(left, blocks[-1])]
        return blocks


@final
@dataclasses.dataclass(frozen=True)
class TreeSolve(Update):
    """The exact minimizer over a block whose graph is a forest, in time proportional to its size."""

    def start(self) -> Step:
        """Read the graph once."""
        return _Tree()


class _Tree(Step):
    def __init__(self) -> None:
        self._graph: Graph | None = None

    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor | None:
        if not isinstance(penalty, Zero):
            raise IncompatibleError("messages on trees solve linear equations: use update='matrix' with a penalty")
        if self._graph is None:
            self._graph = graph_of(coordinates)
        return self._graph.solve(block, -gradient)
