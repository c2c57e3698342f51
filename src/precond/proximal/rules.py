"""Which block is updated next: rules for fixed and for variable blocks."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Coordinates, Penalty, Scalars
from precond.proximal.partitions import Neighbours, Partition

Choose = Callable[[Tensor | None, Tensor | None], Tensor]
"""Returns the next block from the gradient and the slack, ``[n]`` each; both ``None`` for rules that are not greedy."""


class Rule(abc.ABC):
    """A rule of selection, as a frozen dataclass."""

    greedy: ClassVar[bool] = True
    """Looks at the whole gradient."""

    @abc.abstractmethod
    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Return the rule at work on a problem.

        Args:
            coordinates: The smooth part.
            penalty: The penalty.
            size: Variables of a block.

        Returns:
            A function that chooses the next block.
        """


@final
@dataclasses.dataclass(frozen=True)
class Cyclic(Rule):
    """One block of a partition after another.

    Attributes:
        partition: The blocks.
    """

    greedy: ClassVar[bool] = False
    partition: Partition = Neighbours()

    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Count."""
        blocks, count = self.partition.blocks(coordinates, size), 0

        def choose(gradient: Tensor | None, slack: Tensor | None) -> Tensor:
            nonlocal count
            count += 1
            return blocks[(count - 1) % len(blocks)]

        return choose


@final
@dataclasses.dataclass(frozen=True)
class Random(Rule):
    """A random block of a partition.

    Attributes:
        partition: The blocks.
        by_curvature: With probabilities in proportion to the curvatures of the blocks, otherwise equal ones.
        seed: What the draws depend on.
    """

    greedy: ClassVar[bool] = False
    partition: Partition = Neighbours()
    by_curvature: bool = False
    seed: int = 0

    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Draw with a generator of its own."""
        blocks = self.partition.blocks(coordinates, size)
        weights = torch.ones(len(blocks), dtype=torch.float64)
        if self.by_curvature:
            weights = torch.tensor([largest(coordinates.bound(block)) for block in blocks], dtype=torch.float64)
            weights = weights.clamp(min=1e-12 * float(weights.max()) or 1.0)
        generator = torch.Generator().manual_seed(self.seed)

        def choose(gradient: Tensor | None, slack: Tensor | None) -> Tensor:
            return blocks[int(torch.multinomial(weights, 1, generator=generator))]

        return choose


@final
@dataclasses.dataclass(frozen=True)
class Fixed(Rule):
    """The block of a partition with the largest score.

    Scores, of the slack ``s`` (the gradient where there is no penalty): ``"gs"``, ``||s_b||^2``; ``"gsl"``,
    ``||s_b||^2 / L_b``; ``"gsd"``, ``sum s_i^2 / D_i``; ``"gsq"``, ``s_b' H_b^-1 s_b``.

    Attributes:
        score: Which.
        partition: The blocks.
    """

    score: str = "gsl"
    partition: Partition = Neighbours()

    def __post_init__(self) -> None:
        """Check the name."""
        _check(self.score, ("gs", "gsl", "gsd", "gsq"))

    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Compute what the scores need once."""
        blocks = self.partition.blocks(coordinates, size)
        order = torch.cat(blocks)
        owner = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor([len(b) for b in blocks]))
        scale = torch.ones_like(coordinates.x)
        inverses: list[Tensor] = []
        if self.score == "gsd":
            scale = positive(coordinates.dominating())
        elif self.score == "gsl":
            bounds = positive(torch.tensor([largest(coordinates.bound(block)) for block in blocks]).to(scale))
            scale[order] = bounds[owner]
        elif self.score == "gsq":
            inverses = [regular_inverse(coordinates.bound(block)) for block in blocks]

        def choose(gradient: Tensor | None, slack: Tensor | None) -> Tensor:
            assert slack is not None
            if inverses:
                scores = torch.stack(
                    [slack[b] @ inverse @ slack[b] for b, inverse in zip(blocks, inverses, strict=True)]
                )
            else:
                scores = slack.new_zeros(len(blocks)).index_add(0, owner, (slack.square() / scale)[order])
            return blocks[int(scores.argmax())]

        return choose


@final
@dataclasses.dataclass(frozen=True)
class Variable(Rule):
    """The best block of a size among all: its variables are the ones with the largest scores.

    ``"gs"``: ``|s_i|``; ``"gsl"``: ``|s_i| / sqrt(L_i)``; ``"gsd"``: ``|s_i| / sqrt(D_i)``; ``"gsq"``: the larger
    ``s_b' H_b^-1 s_b`` of the block of ``"gsd"`` and of one found by iterative hard thresholding of ``sqrt(L_i) d_i``;
    ``"improvement"``: the decrease of ``g_i d + L_i d^2 / 2 + p_i(x_i + d)``, which sees the penalty.

    Attributes:
        score: Which.
        rounds: Rounds of iterative hard thresholding.
    """

    score: str = "gsd"
    rounds: int = 10

    def __post_init__(self) -> None:
        """Check the name."""
        _check(self.score, ("gs", "gsl", "gsd", "gsq", "improvement"))

    def start(self, coordinates: Coordinates, penalty: Penalty, size: int) -> Choose:
        """Compute what the scores need once."""
        size = min(size, coordinates.x.numel())
        weights = torch.ones_like(coordinates.x)
        if self.score in ("gsl", "gsq", "improvement"):
            weights = positive(coordinates.curvatures())
        elif self.score == "gsd":
            weights = positive(coordinates.dominating())
        roots = weights.sqrt()
        spread = positive(coordinates.dominating()).sqrt() if self.score == "gsq" else roots
        step = 1 / _scaled_eigenvalue(coordinates, roots) if self.score == "gsq" else 1.0
        everything = torch.arange(coordinates.x.numel(), device=coordinates.x.device)

        def top(scores: Tensor) -> Tensor:
            return scores.topk(size).indices.sort().values

        def choose(gradient: Tensor | None, slack: Tensor | None) -> Tensor:
            assert gradient is not None
            assert slack is not None
            if self.score == "improvement":
                x = coordinates.x
                d = penalty.prox(x - gradient / weights, 1 / weights) - x
                return top(-_model_values(penalty, x, d, gradient, weights, everything))
            block = top(slack.abs() / roots)
            if self.score != "gsq":
                return block
            found = [top(slack.abs() / spread), self._threshold(coordinates, slack, block, roots, step, top)]
            scores = [slack[each] @ regular_inverse(coordinates.bound(each)) @ slack[each] for each in found]
            return found[int(torch.stack(scores).argmax())]

        return choose

    def _threshold(
        self, coordinates: Coordinates, slack: Tensor, block: Tensor, roots: Tensor, step: float,
        top: Callable[[Tensor], Tensor],
    ) -> Tensor:  # fmt: skip
        """Return the support of an approximate minimizer with few entries, in variables that have curvature one."""
        u = torch.zeros_like(slack)
        u[block] = -slack[block] / roots[block]
        for _ in range(self.rounds):
            curved = coordinates.product(block, (u / roots)[block])
            moved = u - step * (slack + curved) / roots
            block = top(moved.abs())
            u = torch.zeros_like(u).index_copy(0, block, moved[block])
        return block


def _scaled_eigenvalue(coordinates: Coordinates, roots: Tensor) -> float:
    """Return about the largest eigenvalue of the Hessian's bound, scaled to a unit diagonal, by the power method."""
    everything = torch.arange(len(roots), device=roots.device)
    v, length = torch.ones_like(roots), 1.0
    for _ in range(20):
        v = coordinates.product(everything, v / roots) / roots
        length = float(v.norm())
        if not length > 0:
            return 1.0
        v = v / length
    return 1.05 * length


def _model_values(
    penalty: Penalty, x: Tensor, d: Tensor, gradient: Tensor, weights: Tensor, everything: Tensor
) -> Tensor:
    """Return the model's change along each variable, by the penalty's own form or by differences of its slope."""
    scalars = penalty.scalars(x.numel())
    change = gradient * d + weights / 2 * d.square()
    if scalars is None:
        return change - weights / 2 * d.square()
    return change + (scalar_values(scalars, x + d) - scalar_values(scalars, x)).to(x)


def scalar_values(scalars: Scalars, x: Tensor) -> Tensor:
    """Return the values of the functions of one variable each, ``[n]``; see `Scalars`."""
    t, w, a = x.detach().cpu().double().abs(), scalars.weight, scalars.shape
    scad = torch.where(
        t <= w, w * t, torch.where(t < a * w, (2 * a * w * t - t * t - w * w) / (2 * (a - 1)), w * w * (a + 1) / 2)
    )  # fmt: skip
    mcp = torch.where(t <= a * w, w * t - t * t / (2 * a), a * w * w / 2)
    kinds = [torch.zeros_like(t), w * t, scad, mcp]
    return torch.stack(kinds).gather(0, scalars.kind[None])[0] + scalars.ridge / 2 * t * t


def largest(matrix: Tensor) -> float:
    """Return the largest eigenvalue of a small symmetric matrix."""
    return float(matrix[0, 0]) if len(matrix) == 1 else float(torch.linalg.eigvalsh(matrix)[-1])


def positive(values: Tensor) -> Tensor:
    """Return values with those that are zero raised to a little of the largest, so that they can be divided by."""
    top = float(values.max()) if values.numel() else 1.0
    return values.clamp(min=1e-12 * top if top > 0 else 1.0)


def regular_inverse(matrix: Tensor) -> Tensor:
    """Return the inverse of a positive semidefinite matrix, regularized where it is singular."""
    top = float(matrix.diagonal().max())
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.inv(matrix + (1e-10 * top if top > 0 else 1.0) * eye)


def _check(score: str, known: tuple[str, ...]) -> None:
    if score not in known:
        raise BadInputError(f"the rule must be one of {', '.join(known)}, not {score!r}")
