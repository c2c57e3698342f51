"""Different storages for tensors that hold different things."""

from __future__ import annotations

import dataclasses
from typing import final

from torch import Tensor

from precond.core import Full, Resting, Role, Storage


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class ByRole(Storage):
    """One storage for each role; what is not given rests as it works.

    Attributes:
        signed: Averages of gradients, and whatever has no role of its own.
        non_negative: Second moments.
        symmetric: Symmetric factors.
        root: Their inverse roots.
        orthogonal: Bases.
        triangular: Triangular factors.
    """

    signed: Storage = Full()
    non_negative: Storage = Full()
    symmetric: Storage = Full()
    root: Storage = Full()
    orthogonal: Storage = Full()
    triangular: Storage = Full()

    def rest(self, working: Tensor, role: Role) -> Tensor | Resting:
        """Ask the storage of the role."""
        storages = {
            Role.SIGNED: self.signed,
            Role.NON_NEGATIVE: self.non_negative,
            Role.SYMMETRIC: self.symmetric,
            Role.ROOT: self.root,
            Role.ORTHOGONAL: self.orthogonal,
            Role.TRIANGULAR: self.triangular,
        }
        return storages[role].rest(working, role) if role in storages else working
