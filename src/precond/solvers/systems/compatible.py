"""Whether an operator, an iteration and a preconditioner can work together; asked before the first product."""

from __future__ import annotations

from typing import Any

import torch

from precond.core import BadInputError, IncompatibleError, Iteration, Need, Operator, Preconditioner, Work

_fed = Need.OPERATOR | Need.ENTRIES | Need.ADJOINT | Need.ROOT


def check_iteration(operator: Operator, iteration: Iteration) -> None:
    """Refuse an iteration that cannot solve with this operator.

    Args:
        operator: The matrix.
        iteration: The method.

    Raises:
        IncompatibleError: The shape, the symmetry, the definiteness or a missing adjoint forbids it.
    """
    name, traits = type(iteration).__name__, operator.traits
    if iteration.square and operator.shape[0] != operator.shape[1]:
        raise IncompatibleError(f"{name} solves square systems, the matrix is {operator.shape}: use precond.lstsq")
    if iteration.symmetric_operator and traits.symmetric is False:
        raise IncompatibleError(
            f"{name} needs a symmetric matrix, this is not: use method='gmres', or give (A + A^H) / 2 if it should be"
        )
    if iteration.definite_operator and traits.definite is False:
        raise IncompatibleError(
            f"{name} needs a positive definite matrix, this is not (a diagonal entry is not positive, or it was "
            "declared so): use method='minres' or 'gmres'"
        )
    if Need.ENTRIES in iteration.needs and not operator.has_entries:
        raise IncompatibleError(
            f"{name} needs the entries of the matrix, this operator has only products: give a dense or sparse matrix, "
            "or use method='gmres'"
        )
    if Need.ADJOINT in iteration.needs and not operator.has_adjoint:
        raise IncompatibleError(
            f"{name} needs products with the adjoint: give the operator an `rmatvec`, or a matrix with entries"
        )


def check_preconditioner(operator: Operator, iteration: Iteration, preconditioner: Preconditioner[Any]) -> None:
    """Refuse a preconditioner that the iteration cannot use, or that cannot be fed from this operator.

    Args:
        operator: What the preconditioner is fed with.
        iteration: The method.
        preconditioner: The preconditioner.

    Raises:
        IncompatibleError: It is not linear, fixed, symmetric or definite where it must be, or needs something else.
    """
    name, method, traits = type(preconditioner).__name__, type(iteration).__name__, preconditioner.traits
    if not iteration.preconditioned and preconditioner.needs:
        raise IncompatibleError(
            f"{method} takes no preconditioner, it is one: use preconditioner='identity', or method='richardson' with "
            f"{name}"
        )
    if preconditioner.needs & ~_fed:
        missing = ", ".join(str(need.name).lower() for need in preconditioner.needs & ~_fed)
        raise IncompatibleError(
            f"{name} needs {missing}, which a linear system does not have: use jacobi, ssor, ic0 or identity"
        )
    if not traits.linear and iteration.fixed_preconditioner:
        raise IncompatibleError(f"{name} is not a linear map, {method} needs one: use jacobi, ssor, ic0 or identity")
    if iteration.fixed_preconditioner and not traits.fixed:
        raise IncompatibleError(f"{name} changes between applications, {method} needs a fixed map: use jacobi or ssor")
    if iteration.symmetric_preconditioner and not (traits.symmetric and traits.definite):
        raise IncompatibleError(
            f"{name} is not symmetric positive definite, as {method} needs: use jacobi, ssor or ic0, or method='gmres'"
        )
    if Need.ROOT in preconditioner.needs and operator.root() is None:
        raise IncompatibleError(
            f"{name} preconditions least-squares problems: use precond.lstsq, or preconditioner='nystrom' or 'ic0'"
        )
    if Need.ENTRIES in preconditioner.needs and not operator.has_entries:
        raise IncompatibleError(
            f"{name} needs the entries of the matrix, this operator has only products: give a dense or sparse matrix, "
            "or use preconditioner='identity'"
        )


def check_adjoint(operator: Operator, work: Work) -> None:
    """Compare ``<u, A v>`` with ``<A^H u, v>`` on one random pair; for operators known by products alone.

    Args:
        operator: The matrix, with an adjoint.
        work: The account to charge.

    Raises:
        BadInputError: They differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = operator.shape
    u = torch.randn(1, rows, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    v = torch.randn(1, columns, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    forward, backward = operator.matvec(v), operator.rmatvec(u)
    work.matvecs += 2
    if forward.shape != u.shape or backward.shape != v.shape:
        raise BadInputError(
            f"the products have shapes {tuple(forward.shape)} and {tuple(backward.shape)} where {tuple(u.shape)} and "
            f"{tuple(v.shape)} were expected: `matvec` maps [batch, n] to [batch, m], `rmatvec` back"
        )
    unit = max(float(forward.abs().max()), float(backward.abs().max())) or 1.0  # squares neither vanish nor overflow
    forward, backward = forward / unit, backward / unit
    gap = abs(complex((u.conj() * forward).sum()) - complex((backward.conj() * v).sum()))
    size = float(torch.linalg.vector_norm(u) * torch.linalg.vector_norm(forward))
    if not gap <= 1e3 * torch.finfo(operator.dtype).eps * size * max(operator.shape) ** 0.5:
        raise BadInputError(
            "`rmatvec` is not the adjoint of `matvec`: "
            f"<u, A v> and <A^H u, v> differ by {gap * unit:.1e} for random u, v; "
            "check for a missing transposition or conjugation"
        )


def check_symmetric(operator: Operator, work: Work) -> None:
    """Compare ``<u, A v>`` with ``<A u, v>`` on one random pair; for operators that are declared symmetric.

    Products that are themselves approximate (an inner solve, automatic differentiation in single precision) pass.

    Args:
        operator: The matrix, square.
        work: The account to charge.

    Raises:
        BadInputError: They differ by much more than rounding.
    """
    n = operator.shape[0]
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, n, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    images = operator.matvec(pair)
    work.matvecs += 2
    if images.shape != pair.shape:
        raise BadInputError(
            f"the product has shape {tuple(images.shape)} where {tuple(pair.shape)} was expected: `matvec` maps "
            "[batch, n] to [batch, n]"
        )
    unit = float(images.abs().max()) or 1.0  # squares neither vanish nor overflow
    images = images / unit
    gap = abs(complex((pair[0].conj() * images[1]).sum()) - complex((images[0].conj() * pair[1]).sum()))
    size = float(torch.linalg.vector_norm(pair[0]) * torch.linalg.vector_norm(images[1]))
    if gap > torch.finfo(operator.dtype).eps ** 0.25 * size:
        raise BadInputError(
            f"the operator was declared symmetric, but <u, A v> and <A u, v> differ by {gap * unit:.1e} for random "
            "u, v: leave out `symmetric`, and give `rmatvec` if there is one"
        )
