"""What parts declare about themselves, so that drivers can refuse a bad pair before any work."""

from __future__ import annotations

import dataclasses
import enum


class Need(enum.Flag):
    """What a part must be fed; the driver provides it or refuses with a remedy."""

    NOTHING = 0
    GRADIENT = enum.auto()
    """The (estimated) gradient of each step."""
    PREVIOUS = enum.auto()
    """The raw gradient of the step before, kept once by the driver for all who need it."""
    LOSS = enum.auto()
    """The value of the loss at the current point."""
    PROBE = enum.auto()
    """A random vector and the product of the Hessian at the current point with it."""
    SIGNS = enum.auto()
    """Probes whose entries are random signs, rather than normal."""
    SECANT = enum.auto()
    """Pairs of differences of points and of gradients."""
    OPERATOR = enum.auto()
    """A linear operator with products: the matrix itself, or the Hessian at the current point."""
    ENTRIES = enum.auto()
    """The entries of that operator, not only its products."""
    ADJOINT = enum.auto()
    """Products with the transposed operator."""
    REPLAY = enum.auto()
    """Evaluations of the objective at other points than the current one (a closure)."""
    LOOKBACK = enum.auto()
    """The gradient of this step's batch at the weights of the step before (a closure, evaluated twice)."""
    ANOTHER = enum.auto()
    """The gradient at the current point of another batch (a closure that draws a batch, evaluated twice)."""
    RESIDUAL = enum.auto()
    """An objective that is a sum of squares and knows its residuals."""
    ROOT = enum.auto()
    """An operator that knows a factor ``F`` of its own, ``A = F^H F``: the matrix of a least-squares problem."""


class Scope(enum.Enum):
    """How much of a model one application of a part must see at once."""

    ELEMENTWISE = "elementwise"
    """Entries do not interact: any layout will do."""
    MATRIX = "matrix"
    """Entries of one parameter tensor interact; tensors do not."""
    GLOBAL = "global"
    """All parameters interact: the part sees one flat vector."""


@dataclasses.dataclass(frozen=True)
class Traits:
    """What kind of map a preconditioner is; each claim is a law that a test checks.

    Attributes:
        linear: ``apply`` is linear in its argument.
        symmetric: ``apply`` is a symmetric map.
        definite: ``apply`` is positive definite: ``<v, P v> > 0`` for ``v != 0``.
        fixed: ``apply`` does not change between refreshes, nor depend on an inner tolerance.
        shiftable: ``apply`` accepts a ``shift`` other than zero.
        equivalent: ``apply`` is the inverse up to a small constant factor in every direction, with any shift, so that
            norms may be estimated with it.
        exact: ``apply`` is the inverse of the last operator to rounding, where that is definite beyond rounding.
        traceable: ``observe`` and ``apply`` are work on tensors that a compiler can follow: no random draws, and no
            decisions by what the tensors hold.
        turns: Refreshes turn the coordinates in which other parts of the state live, which fit until then what was
            observed in them; so a driver does not turn between observing and applying.
    """

    linear: bool = True
    symmetric: bool = True
    definite: bool = True
    fixed: bool = True
    shiftable: bool = False
    equivalent: bool = False
    exact: bool = False
    traceable: bool = True
    turns: bool = False


@dataclasses.dataclass(frozen=True)
class OperatorTraits:
    """What is known of an operator; ``None`` means not known."""

    symmetric: bool | None = None
    definite: bool | None = None
