"""Bases that are turned towards eigenvectors, a step at a time: QR iterations and orthogonal iterations of batches."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.factors.eigen import is_rounding
from precond.math.factors.orthogonal import LEAST_SIDE, Reduced, reduced
from precond.math.factors.revealing_qr import revealing_qr
from precond.math.machine.products import fast_products, multiplied
from precond.math.norms import all_finite
from precond.math.tensors.modes import strips
from precond.math.tensors.orders import rows_in_order, rows_put_back


def off_diagonal_mass(estimates: Tensor) -> Tensor:
    """Return ``||B - diag B||_F / ||B||_F`` for each matrix ``B = Q^T A Q``, zero for zero: how far ``Q`` is from done.

    It is the relative error of ``Q diag(B) Q^T`` as an approximation of ``A``.

    Source: Eschenhagen et al. (arXiv 2506.03595).

    Args:
        estimates: Shape ``[batch, n, n]``.

    Returns:
        Shape ``[batch]``.
    """
    scale = estimates.abs().amax((-2, -1), keepdim=True)
    scaled = estimates / torch.where(scale > 0, scale, 1.0)
    whole = torch.linalg.matrix_norm(scaled)
    off = torch.linalg.matrix_norm(scaled - torch.diag_embed(scaled.diagonal(dim1=-2, dim2=-1)))
    return off / torch.where(whole > 0, whole, 1.0)


def adaptive_qr(
    matrices: Tensor, basis: Tensor, tolerance: float, iterations: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Improve eigenvectors by QR iterations, only where they diagonalize their matrix too badly.

    ``B = Q^T A Q``; while ``||B - diag B||_F > tolerance ||B||_F``: ``B = U R``, ``B <- R U``, ``Q <- Q U``. The order
    of the columns matters from call to call: an iteration turns the first of them towards the largest eigenvalue.

    Source: Eschenhagen et al. (arXiv 2506.03595); Shi et al. (arXiv 2309.06497).

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``.
        basis: Orthogonal matrices, approximate eigenvectors in columns, shape ``[batch, n, n]``.
        tolerance: Off-diagonal mass at which to be content.
        iterations: Most iterations.

    Returns:
        Estimated eigenvalues ``[batch, n]``, descending; eigenvectors ``[batch, n, n]``; a mask ``[batch]`` of members
        that failed and kept their basis; and a mask ``[batch]`` of those that were iterated on.
    """
    failed = ~matrices.isfinite().all(-1).all(-1)
    identity = torch.eye(basis.shape[-1], dtype=basis.dtype, device=basis.device)
    work = torch.where(failed[:, None, None], identity, matrices)
    with fast_products(work, work.numel() * work.shape[-1]):
        estimate, turned = torch.bmm(basis.mT, torch.bmm(work, basis)), basis
        moved = torch.zeros_like(failed)
        for _ in range(iterations):
            todo = off_diagonal_mass(estimate) > tolerance
            if not bool(todo.any()):
                break
            index = todo.nonzero()[:, 0]
            u, r = torch.linalg.qr(estimate[index])
            estimate = estimate.index_copy(0, index, torch.bmm(r, u))
            turned = turned.index_copy(0, index, torch.bmm(turned[index], u))
            moved |= todo
    failed |= ~turned.sum((-2, -1)).isfinite()
    values, order = estimate.diagonal(dim1=-2, dim2=-1).sort(dim=-1, descending=True, stable=True)
    turned = turned.gather(-1, order[:, None, :].expand_as(turned))
    return values, torch.where(failed[:, None, None], basis, turned), failed, moved & ~failed


def power_qr(matrices: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of orthogonal iteration: sort the basis by its Rayleigh quotients, multiply, orthogonalize.

    Where nothing but rounding errors is left of a product beside those before it, as in matrices of low rank, the
    column of the basis takes its place: the errors would point anywhere, and runs that differ by rounding would part.

    Source: SOAP (arXiv 2409.11321), Algorithm 4.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``.
        basis: Orthogonal matrices, approximate eigenvectors in columns, shape ``[batch, n, n]``.

    Returns:
        The next basis ``[batch, n, n]``; the permutation ``[batch, n]`` that sorted the old columns, largest Rayleigh
        quotient first; and a mask ``[batch]`` of members that failed and kept basis and order.
    """
    turned, _, _, order, failed = _orthogonalized(matrices, basis)
    return turned, order, _mask(failed, matrices)


def qr_turn(matrices: Tensor, half: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take the step of `power_qr` from the identity, and write the matrices in the coordinates it leads to.

    With ``A P = U R``, where ``P`` sorts, these are ``U^T A U = R P^T U``: one product instead of two.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``.
        half: Multiply in bfloat16. The entries below the diagonal lose nothing by it that is not small beside the
            eigenvalue of their row, the smaller of the two that they belong to.

    Returns:
        The rotation ``U``, ``[batch, n, n]``; the matrices turned, of which the lower triangles count; the permutation
        ``[batch, n]`` of `power_qr`; and a mask ``[batch]`` of members that failed, whose rotation is the identity.
    """
    if matrices.shape[-1] >= LEAST_SIDE:
        return _large_turn(matrices, half)
    turn, found, replaced, order, failed = _orthogonalized(matrices, None)
    factor = turn.bfloat16() if half else turn
    turned = multiplied(found.triangle(), rows_in_order(factor, order), half)
    for other in (replaced, failed):
        if other is not None:
            twice = multiplied(turn.mT, multiplied(matrices, turn, half), half)
            turned = torch.where(other[:, None, None], twice, turned)
    return turn, turned, order, _mask(failed, matrices)


def _large_turn(matrices: Tensor, half: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do what `qr_turn` does with rows sorted, too, so that what depends on other columns stays where it is."""
    identity = _identity(matrices)
    failed, order, products = _sorted(matrices, identity, matrices.diagonal(dim1=-2, dim2=-1))
    products = rows_in_order(products, order)
    found = [revealing_qr(product) for product in products]
    del products  # large factors are many, and so is a copy of one
    inner, triangle = (each[0][None] if len(each) == 1 else torch.stack(each) for each in zip(*found, strict=True))
    broken = ~inner.sum((-2, -1)).isfinite() | _mask(failed, matrices)
    turned = _below_diagonal(triangle, inner, half)
    turn = rows_put_back(inner, order)
    if bool(broken.any()):
        order = torch.where(broken[:, None], torch.arange(order.shape[-1], device=order.device), order)
        turn = torch.where(broken[:, None, None], identity, turn)
        turned = torch.where(broken[:, None, None], matrices, turned)
    return turn, turned, order, broken


def _below_diagonal(triangles: Tensor, b: Tensor, half: bool) -> Tensor:
    """Return the products ``R b`` of upper triangles, in strips of rows that reach as far as the diagonal.

    A third of the work of whole products: the strips leave out the zeros of ``R``, and what is above the diagonal.

    Args:
        triangles: Shape ``[batch, n, n]``; what is below the diagonals is not read, but for the corners of strips.
        b: Shape ``[batch, n, n]``.
        half: Multiply in bfloat16.

    Returns:
        Shape ``[batch, n, n]``; above the diagonal it holds anything finite.
    """
    if half:
        triangles, b = triangles.bfloat16(), b.bfloat16()
    products = torch.zeros_like(b)
    for start, end in strips(b.shape[-1]):
        products[:, start:end, :end] = multiplied(triangles[:, start:end, start:], b[:, start:, :end])
    return products


def _mask(members: Tensor | None, like: Tensor) -> Tensor:
    """Return a mask of members, none of them unless given."""
    return torch.zeros(len(like), dtype=torch.bool, device=like.device) if members is None else members


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device).expand_as(like)


def _sorted(products: Tensor, basis: Tensor, quotients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return a mask of members that are not finite, the permutations that sort by quotients, and the columns sorted.

    Members that are not finite become the basis, in its order; there is no mask where there are none.
    """
    failed = None if all_finite(quotients) else ~quotients.isfinite().all(-1)  # a bad entry shows in its column
    if failed is not None:
        products = torch.where(failed[:, None, None], basis, products)
        quotients = torch.where(failed[:, None], -torch.arange(basis.shape[-1], device=basis.device), quotients)
    order = torch.argsort(quotients, dim=-1, descending=True, stable=True)
    return failed, order, products.gather(-1, order[:, None, :].expand_as(products))


def _orthogonalized(
    matrices: Tensor, basis: Tensor | None
) -> tuple[Tensor, Reduced, Tensor | None, Tensor, Tensor | None]:
    """Sort the columns of products with a basis by their Rayleigh quotients, and orthogonalize them.

    Args:
        matrices: Symmetric, shape ``[batch, n, n]``.
        basis: The bases, shape ``[batch, n, n]``; the identity unless given.

    Returns:
        The orthogonal factors and the decompositions; a mask of members in which columns were replaced, ``None`` for
        none; the permutation; and a mask of members that failed and kept basis and order, ``None`` for none.
    """
    if basis is None:
        basis = _identity(matrices)
        products, quotients = matrices, matrices.diagonal(dim1=-2, dim2=-1)
    else:
        with fast_products(matrices, matrices.numel() * matrices.shape[-1]):
            products = torch.bmm(matrices, basis)
        quotients = (basis * products).sum(-2)
    failed, order, products = _sorted(products, basis, quotients)
    found, replaced = reduced(products), None
    null = is_rounding(found.lengths)
    if bool(null.any()):
        found = reduced(torch.where(null[:, None], basis.gather(-1, order[:, None, :].expand_as(basis)), products))
        replaced = null.any(-1)
    del products  # large factors are many
    turned = found.q()
    if not all_finite(turned):
        broken = ~turned.sum((-2, -1)).isfinite()
        failed = broken if failed is None else failed | broken
    if failed is not None:
        unmoved = torch.arange(order.shape[-1], device=order.device).expand_as(order)
        order = torch.where(failed[:, None], unmoved, order)
        turned = torch.where(failed[:, None, None], basis, turned)
    return turned, found, replaced, order, failed
