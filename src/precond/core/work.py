"""Counted work: what a run cost in evaluations, and in seconds."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Work:
    """Counters of evaluations; drivers add to them, nobody else.

    Attributes:
        losses: Values of the objective computed without a gradient; in least squares, vectors of residuals.
        differences: Those of the losses of least squares that differences took.
        gradients: Gradients (each with its value).
        jacobians: Jacobians of a vector of residuals.
        hvps: Hessian-vector products.
        matvecs: Products with the operator or its adjoint (with constraints: with their Jacobian), one per vector.
        inner: Iterations of inner solvers, where an outer method counts its own.
        factorizations: Factorizations of Newton systems.
        applies: Applications of a preconditioner, one per vector or tensor.
        refreshes: Refreshes of a preconditioner.
        refresh_failures: Members of a batch whose refresh failed and kept its last good factor.
        skipped: Gradients left out because they were not finite.
        seconds: Seconds spent by kind of work, where a driver times it ("step", "refresh", "setup").
    """

    losses: int = 0
    differences: int = 0
    gradients: int = 0
    jacobians: int = 0
    hvps: int = 0
    matvecs: int = 0
    inner: int = 0
    factorizations: int = 0
    applies: int = 0
    refreshes: int = 0
    refresh_failures: int = 0
    skipped: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def charge(self, products: int, applications: int) -> None:
        """Add products and applications that were not counted one by one."""
        self.matvecs += products
        self.applies += applications

    def spend(self, kind: str, seconds: float) -> None:
        """Add ``seconds`` to the account of ``kind``."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def counts(self) -> dict[str, int]:
        """Return the counters alone, without seconds."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "seconds"}
