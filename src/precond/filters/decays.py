"""What decays of averages must be."""

from __future__ import annotations

from precond.core import BadInputError


def check_decay(name: str, value: float) -> None:
    """Refuse a decay with which an average would not forget.

    Args:
        name: What the decay is called.
        value: The decay.

    Raises:
        BadInputError: It is not in ``[0, 1)``.
    """
    if not 0.0 <= value < 1.0:
        raise BadInputError(f"{name} must be in [0, 1), not {value}")
