"""The distributor that parameters call for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from precond.core import BadInputError, Distributor
from precond.distributors.local import Local
from precond.distributors.sharded import Sharded


def choose(asked: Distributor | str, params: Sequence[Tensor]) -> Distributor:
    """Return the distributor that was asked for, or for ``"auto"`` the one that the parameters call for.

    Args:
        asked: A distributor, or ``"auto"``.
        params: The parameters.

    Returns:
        `Sharded` if a parameter is a DTensor, `Local` if none is.

    Raises:
        BadInputError: Something else was asked for.
    """
    if isinstance(asked, Distributor):
        return asked
    if asked != "auto":
        raise BadInputError(f"distributor must be 'auto' or a Distributor such as DataParallel(), not {asked!r}")
    return Sharded() if any(hasattr(param, "device_mesh") for param in params) else Local()
