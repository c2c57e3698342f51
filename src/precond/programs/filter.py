"""A filter: pairs of violation and objective that no later point may be worse than in both."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Filter:
    """The forbidden region of a line search, as the corners of its staircase.

    Source: R. Fletcher, S. Leyffer, *Nonlinear programming without a penalty function*, 2002; the constants of A.
    Waechter, L. T. Biegler, *On the implementation of an interior-point filter line-search algorithm*, 2006.

    Attributes:
        largest: Violations from here on are forbidden.
        corners: Pairs of violation and objective.
    """

    largest: float
    corners: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    GAMMA_VIOLATION = 1e-5
    GAMMA_OBJECTIVE = 1e-8

    def accepts(self, violation: float, objective: float) -> bool:
        """Whether a point lies outside of the forbidden region; one that is not a number does not."""
        if not violation < self.largest or objective != objective:
            return False
        return all(violation < v or objective < o for v, o in self.corners)

    def add(self, violation: float, objective: float) -> None:
        """Forbid what is not better than this point by a margin in one of the two."""
        corner = ((1 - self.GAMMA_VIOLATION) * violation, objective - self.GAMMA_OBJECTIVE * violation)
        self.corners = [c for c in self.corners if not (c[0] >= corner[0] and c[1] >= corner[1])]
        self.corners.append(corner)

    def improves(self, here: tuple[float, float], violation: float, objective: float) -> bool:
        """Whether a point is better than ``here`` by a margin in violation or objective."""
        return (
            violation <= (1 - self.GAMMA_VIOLATION) * here[0] or objective <= here[1] - self.GAMMA_OBJECTIVE * here[0]
        )
