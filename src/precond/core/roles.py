"""What a state tensor is, as far as a storage must know to encode it well."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class Role(enum.Enum):
    """What a state tensor holds; declared beside the field of a state, read by storages.

    The last two axes are those of a matrix where a role speaks of matrices.
    """

    SIGNED = "signed"
    """Numbers of either sign: averages of gradients. What nothing else is said of."""
    NON_NEGATIVE = "non-negative"
    """Second moments: not negative, over many orders of magnitude, divided by; must not become zero unless they are."""
    SYMMETRIC = "symmetric"
    """Symmetric, positive semidefinite matrices; above the diagonal there need not be anything."""
    ROOT = "root"
    """Symmetric, positive definite matrices that vectors are multiplied by."""
    ORTHOGONAL = "orthogonal"
    """Square matrices with orthonormal columns."""
    TRIANGULAR = "triangular"
    """Lower triangular matrices with a positive diagonal."""
    EXACT = "exact"
    """Few numbers that much hangs on: never encoded."""


_KEY = "precond.role"


def rests_as(role: Role) -> Any:
    """Return the field of a state dataclass whose tensors (it may be a list of them) have a role.

    ``second_moment: Tensor = rests_as(Role.NON_NEGATIVE)``

    Args:
        role: What the tensors hold.

    Returns:
        A field without a default.
    """
    return dataclasses.field(metadata={_KEY: role})


def role_of(field: dataclasses.Field[Any]) -> Role:
    """Return the role that was declared for a field; `Role.SIGNED` if none was."""
    role = field.metadata.get(_KEY, Role.SIGNED)
    assert isinstance(role, Role)
    return role
