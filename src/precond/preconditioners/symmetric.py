"""What parts ask of an operator that must be symmetric."""

from __future__ import annotations

from precond.core import Evidence, IncompatibleError, Operator


def symmetric_operator(evidence: Evidence, refusal: str) -> Operator:
    """Return the operator; refuse where there is none, or one that is known not to be symmetric.

    Args:
        evidence: What was observed.
        refusal: What is needed, and what would do instead.

    Returns:
        The operator.

    Raises:
        IncompatibleError: With ``refusal``.
    """
    operator = evidence.operator
    if operator is None or operator.traits.symmetric is False:
        raise IncompatibleError(refusal)
    return operator
