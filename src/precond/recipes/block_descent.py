"""Block coordinate descent: every rule of choosing blocks with every rule of updating them."""

from __future__ import annotations

from typing import Literal

from precond.core import BadInputError, Builds, Choice, CompositeIteration, IncompatibleError, Kind, Paper
from precond.proximal.coordinate import CoordinateDescent
from precond.proximal.descent import BlockDescent
from precond.proximal.partitions import Averaged, Neighbours, Partition, Sorted
from precond.proximal.rules import Cyclic, Fixed, Random, Rule, Variable
from precond.proximal.trees import Forests, GreedyForest, TreeSolve
from precond.proximal.updates import MatrixBound, NewtonStep, ScalarBound, Search, Update
from precond.recipes.registry import recipe

_NUTINI = Paper(
    title="Let's Make Block Coordinate Descent Converge Faster: Faster Greedy Rules, Message-Passing, Active-Set "
    "Complexity, and Superlinear Convergence",
    authors="Julie Nutini, Issam Laradji, Mark Schmidt",
    year=2022,
    arxiv="1712.08859",
    venue="JMLR 23",
)
_LOSS = "precond.losses.LeastSquares(torch.eye(3).double(), [3.0, 0.5, 0.1])"
_ZERO = "torch.zeros(3).double()"

RuleName = Literal["random", "lipschitz", "cyclic", "gs", "gsl", "gsd", "gsq", "improvement", "forest"]
UpdateName = Literal["scalar", "matrix", "newton", "search", "tree"]
PartitionName = Literal["order", "sorted", "averaged", "forests", "colours"]


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=_NUTINI,
    purpose="Linear models and quadratic functions, with or without a separable penalty, one block at a time.",
    claim="Greedy variable blocks with matrix updates need far fewer iterations than random ones, and identify the "
    "active set in finitely many.",
    example=f"precond.minimize({_LOSS}, {_ZERO}, penalty=precond.penalties.L1(0.1), method='block-descent')",
    space={"rule": Choice(("gs", "gsl", "gsd")), "size": Choice((5, 20, 50, 100))},
    aliases=("bcd", "block-coordinate-descent"),
)
def block_descent(
    *,
    rule: RuleName = "gsd",
    update: UpdateName = "matrix",
    variable: bool = True,
    partition: PartitionName = "order",
    size: int = 20,
    seed: int = 0,
) -> CompositeIteration:
    """Choose a block ``b`` of ``size`` variables, move it, repeat.

    Rules, with the slack ``s`` (the gradient without a penalty), curvatures ``L_i``, and ``D_i`` the sum of sizes of
    row ``i`` of a bound ``H`` on the Hessian: of fixed blocks, ``random``, ``lipschitz`` (random by curvature),
    ``cyclic``, ``gs`` (largest ``||s_b||``), ``gsl`` (``||s_b||^2 / L_b``), ``gsd`` (``sum s_i^2 / D_i``), ``gsq``
    (``s_b' H_b^-1 s_b``); of variable blocks, the largest ``|s_i|``, ``|s_i| / sqrt(L_i)``, ``|s_i| / sqrt(D_i)``, an
    approximation of the last, and ``improvement``, which measures the decrease with the penalty. ``forest`` takes a
    variable block without cycles in the graph of a sparse quadratic function.

    Updates: ``scalar``, ``d = -g_b / L_b``; ``matrix``, ``d = -H_b^-1 g_b``, exact for quadratic functions; ``newton``,
    with the Hessian and a search; ``search``, with ``L_b`` found by doubling; ``tree``, exact on forests by messages.
    With a penalty they minimize its sum with the same model.

    Deviations:
        1. Scores are Euclidean, as in the paper; the published code takes l1 norms of blocks.
        2. ``D_i`` of linear models is that of ``|A|' |A|``, a bound that costs two products.
        3. ``gsq`` of variable blocks takes the better of two candidates: the block of ``gsd``, and the end of ten
           rounds of iterative hard thresholding in variables scaled to curvature one.
        4. The search halves the step; the published code interpolates.
        5. With a penalty, ``gs`` and its kin score the slack.

    Args:
        rule: Which block.
        update: How it moves.
        variable: Variable blocks, where the rule is greedy; otherwise fixed ones.
        partition: How variables are divided into fixed blocks: neighbours, sorted or averaged by curvature, forests, or
            sets without edges among them.
        size: Variables of a block.
        seed: Seed of the random rules.

    Returns:
        The iteration.
    """
    partitions: dict[str, Partition] = {
        "order": Neighbours(), "sorted": Sorted(), "averaged": Averaged(), "forests": Forests(),
        "colours": Forests(independent=True),
    }  # fmt: skip
    updates: dict[str, Update] = {
        "scalar": ScalarBound(), "matrix": MatrixBound(), "newton": NewtonStep(), "search": Search(),
        "tree": TreeSolve(),
    }  # fmt: skip
    if partition not in partitions:
        raise BadInputError(f"partition must be one of {', '.join(partitions)}, not {partition!r}")
    if update not in updates:
        raise BadInputError(f"update must be one of {', '.join(updates)}, not {update!r}")
    chosen = _rule(rule, partitions[partition], variable, seed)
    forest = isinstance(chosen, GreedyForest) or partition in ("forests", "colours")
    if (update == "tree") is not forest:
        raise IncompatibleError("update='tree' goes with rule='forest', or with fixed blocks of partition='forests'")
    return BlockDescent(chosen, updates[update], size)


def _rule(name: str, partition: Partition, variable: bool, seed: int) -> Rule:
    if name in ("random", "lipschitz"):
        return Random(partition, name == "lipschitz", seed)
    if name == "cyclic":
        return Cyclic(partition)
    if name == "forest":
        return GreedyForest()
    return Variable(name) if variable else Fixed(name, partition)


@recipe(
    builds=Builds.COMPOSITE,
    runs_on=Kind.COMPOSITE,
    family="composite",
    paper=Paper(
        title="Regularization paths for generalized linear models via coordinate descent",
        authors="Jerome Friedman, Trevor Hastie, Rob Tibshirani",
        year=2010,
        venue="Journal of Statistical Software 33",
    ),
    purpose="Linear models with a separable penalty, one variable at a time in compiled rounds.",
    claim="The fastest way to compute regularization paths of linear models.",
    example=f"precond.minimize({_LOSS}, {_ZERO}, penalty=precond.penalties.L1(0.1), method='coordinate-descent')",
    aliases=("cd",),
)
def coordinate_descent(*, shuffled: bool = False, seed: int = 0) -> CompositeIteration:
    """Coordinate descent, ``x_j <- prox(x_j - g_j / L_j)``, in rounds over all variables.

    Deviations:
        1. Losses other than least squares keep a bound ``L_j`` on the curvature, rather than a quadratic approximation
           that is renewed.
        2. No screening, no active sets: ``prox-newton`` has working sets.

    Args:
        shuffled: Each round in a new random order.
        seed: Seed of the orders.

    Returns:
        The iteration.
    """
    return CoordinateDescent(shuffled, seed)
