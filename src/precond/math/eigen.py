"""Eigendecompositions of batches of symmetric matrices that survive bad members."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.math.orthogonal import LEAST_SIDE, complete_qr, orthogonal, reduced
from precond.math.products import fast_products, multiplied
from precond.math.revealing_qr import revealing_qr, rounding

_ATTEMPTS: tuple[tuple[float, torch.dtype | None], ...] = ((0.0, None), (1.0, None), (0.0, torch.float64))
"""Multiples of the machine epsilon to add to the scaled diagonal, and the dtype to work in, in order of attempt."""


def inf_norm(matrices: Tensor) -> Tensor:
    """Return the largest absolute row sum of each matrix, shape ``[batch]``: a bound on every eigenvalue."""
    return matrices.abs().sum(-1).amax(-1)


def safe_eigh(matrices: Tensor, last: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose symmetric matrices; one bad member never spoils the others, and nothing raises.

    Every member is first divided by a bound on its largest eigenvalue, so that neither huge nor tiny entries overflow.
    If the batch then fails, it is tried with a scaled jitter on the diagonal, then in float64, then member by member.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``; only the lower triangles are read.
        last: Values ``[batch, n]`` and vectors ``[batch, n, n]`` for the members that fail;
            zeros and the identity unless given.

    Returns:
        Eigenvalues ``[batch, n]``, ascending; eigenvectors ``[batch, n, n]`` in columns; and a mask ``[batch]``
        of the members that failed, because they hold an entry that is not finite or no attempt succeeded.
    """
    values, vectors, scale, failed = scaled_eigh(matrices)
    values = values * scale[:, None]
    if last is not None and bool(failed.any()):
        values = torch.where(failed[:, None], last[0], values)
        vectors = torch.where(failed[:, None, None], last[1], vectors)
    return values, vectors, failed


def scaled_eigh(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decompose symmetric matrices, each divided by a bound on its largest eigenvalue, as `safe_eigh` does.

    Args:
        matrices: Symmetric matrices, shape ``[batch, n, n]``; only the lower triangles are read.

    Returns:
        Eigenvalues ``[batch, n]`` of the divided matrices, ascending; eigenvectors ``[batch, n, n]`` in columns; what
        each matrix was divided by, ``[batch]``, one where there is nothing to divide by; and a mask ``[batch]`` of the
        members that failed, whose values are zero and whose vectors are the identity.
    """
    bound = inf_norm(matrices)
    finite = bound < math.inf  # NaN is not
    scale = torch.where(finite & (bound > 0), bound, 1.0)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    values, vectors, solved = _decompose(torch.where(finite[:, None, None], matrices / scale[:, None, None], identity))
    good = solved & finite
    vectors = torch.where(good[:, None, None], vectors, identity)
    return torch.where(good[:, None], values, 0.0), vectors, scale, ~good


def all_eigenvectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of positive semidefinite matrices as `safe_eigh` finds them, null spaces settled.

    Args:
        matrices: Shape ``[batch, n, n]``.

    Returns:
        Eigenvectors ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask ``[batch]`` of members that
        failed; theirs are the identity.
    """
    values, vectors, failed = safe_eigh(matrices)
    return _settled(vectors.flip(-1), values.flip(-1)), failed


def _settled(vectors: Tensor, values: Tensor) -> Tensor:
    """Return eigenvectors, largest eigenvalue first, with a null space that depends on the others alone.

    Rounding errors choose a basis of a null space, so that runs which differ by rounding would part where a basis is
    all that matters. The reflections that reduce the other vectors give one that moves no more than these do.
    """
    null = _is_rounding(values)
    if not bool(null.any()):
        return vectors
    null = null.unsqueeze(-2)
    return torch.where(null, orthogonal(torch.where(null, 0.0, vectors)), vectors)


def _is_rounding(lengths: Tensor) -> Tensor:
    """Whether nothing but rounding errors can be left of some of the lengths of a member, ``[batch, n]``."""
    return lengths <= rounding(lengths.shape[-1], lengths.dtype) * lengths.amax(-1, keepdim=True)


def gram_eigenvectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return all eigenvectors of ``V V^T`` for matrices with fewer columns than rows, without forming the product.

    With ``V = Q R`` they are those of the small ``R R^T``, turned by ``Q``; the null space gets the rest of ``Q``, or
    is settled as in `all_eigenvectors` where the columns are dependent.

    Args:
        vectors: Shape ``[batch, n, k]`` with ``k <= n``.

    Returns:
        Eigenvectors ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask ``[batch]`` of members that
        failed; theirs are the identity.
    """
    vectors, _, failed = _left_vectors(vectors)
    return _unless(failed, vectors), failed


def singular_vectors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all eigenvectors of ``M M^T`` and of ``M^T M`` from one decomposition, that of the smaller.

    With the eigenvectors ``U`` of ``M M^T``, the columns of ``M^T U`` are those of ``M^T M`` times the singular values:
    orthogonal but for rounding errors, which are as large as the largest column in all of them. A QR decomposition
    takes them out, largest first. Null spaces are settled as in `all_eigenvectors`.

    Args:
        matrices: Shape ``[batch, m, n]``.

    Returns:
        Eigenvectors ``[batch, m, m]`` and ``[batch, n, n]`` in columns, largest eigenvalue first, and a mask
        ``[batch]`` of members that failed; theirs are the identity.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        right, left, failed = singular_vectors(matrices.mT)
        return left, right, failed
    left, null, failed = _left_vectors(matrices)
    with fast_products(matrices, matrices.numel() * matrices.shape[-1]):
        scaled = torch.bmm(matrices.mT, left[..., : matrices.shape[-1]])
    right = orthogonal(torch.where(null[:, None], 0.0, scaled))
    failed = failed | ~right.sum((-2, -1)).isfinite()
    return _unless(failed, left), _unless(failed, right), failed


def _left_vectors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all eigenvectors ``U`` of ``M M^T`` for matrices with at least as many rows as columns.

    Args:
        matrices: Shape ``[batch, n, k]``.

    Returns:
        ``U``, shape ``[batch, n, n]``, largest eigenvalue first; which of its first ``k`` columns belong to the null
        space, ``[batch, k]``; and a mask ``[batch]`` of members that failed.
    """
    n, k = matrices.shape[-2:]
    finite = matrices.sum((-2, -1)).isfinite()
    if not bool(finite.all()):
        finite = matrices.isfinite().all(-1).all(-1)
        matrices = torch.where(finite[:, None, None], matrices, 0.0)
    q, r = complete_qr(matrices) if k < n else (None, matrices)
    with fast_products(matrices, matrices.numel() * k):
        values, small, failed = safe_eigh(torch.bmm(r, r.mT))
        values, small = values.flip(-1), small.flip(-1)
        if q is None:
            q = small
        else:
            q[..., :k] = torch.bmm(q[..., :k], small)
    null = _is_rounding(values)
    if bool(null.any()):
        q = _settled(q, torch.nn.functional.pad(values, (0, n - k)))
    return q, null, failed | ~finite | ~q.sum((-2, -1)).isfinite()


def _unless(failed: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors ``[batch, n, n]``, but the identity for members that failed."""
    if not bool(failed.any()):
        return vectors
    identity = torch.eye(vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)
    return torch.where(failed[:, None, None], identity, vectors)


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
    with fast_products(matrices, matrices.numel() * matrices.shape[-1]):
        product = torch.bmm(matrices, basis)
    turned, _, _, order, failed = _orthogonalized(product, basis, (basis * product).sum(-2))
    return turned, order, failed


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
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    quotients = matrices.diagonal(dim1=-2, dim2=-1)
    if matrices.shape[-1] >= LEAST_SIDE:
        return _large_turn(matrices, identity, quotients, half)
    turn, triangle, exact, order, failed = _orthogonalized(matrices, identity, quotients)
    factor = turn.bfloat16() if half else turn
    turned = multiplied(triangle, factor.gather(-2, order[:, :, None].expand_as(factor)), half)
    if not bool(exact.all()):
        twice = multiplied(turn.mT, multiplied(matrices, turn, half), half)
        turned = torch.where(exact[:, None, None], turned, twice)
    return turn, turned, order, failed


def _large_turn(
    matrices: Tensor, identity: Tensor, quotients: Tensor, half: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do what `qr_turn` does with rows sorted, too, so that what depends on other columns stays where it is."""
    failed, order, products = _sorted(matrices, identity, quotients)
    rows = order[:, :, None].expand_as(matrices)
    found = [revealing_qr(product) for product in products.gather(-2, rows)]
    inner, triangle = torch.stack([q for q, _ in found]), torch.stack([r for _, r in found])
    broken = failed | ~inner.sum((-2, -1)).isfinite()
    turned = multiplied(triangle, inner, half)
    turn = torch.empty_like(inner).scatter_(-2, rows, inner)
    if bool(broken.any()):
        order = torch.where(broken[:, None], torch.arange(order.shape[-1], device=order.device), order)
        turn = torch.where(broken[:, None, None], identity, turn)
        turned = torch.where(broken[:, None, None], matrices, turned)
    return turn, turned, order, broken


def _sorted(products: Tensor, basis: Tensor, quotients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a mask of members that are not finite, the permutations that sort by quotients, and the columns sorted.

    Members that are not finite become the basis, in its order.
    """
    failed = ~quotients.isfinite().all(-1)  # an entry that is not finite shows in the quotient of its column
    if bool(failed.any()):
        products = torch.where(failed[:, None, None], basis, products)
        quotients = torch.where(failed[:, None], -torch.arange(basis.shape[-1], device=basis.device), quotients)
    order = torch.argsort(quotients, dim=-1, descending=True, stable=True)
    return failed, order, products.gather(-1, order[:, None, :].expand_as(products))


def _orthogonalized(
    products: Tensor, basis: Tensor, quotients: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sort the columns of products with a basis by their Rayleigh quotients, and orthogonalize them.

    Args:
        products: Matrices times their bases, shape ``[batch, n, n]``.
        basis: The bases, shape ``[batch, n, n]``.
        quotients: Rayleigh quotients of their columns, shape ``[batch, n]``.

    Returns:
        The orthogonal and the triangular factors; a mask of members whose sorted products they are, no column replaced;
        the permutation; and a mask of members that failed and kept basis and order.
    """
    failed, order, products = _sorted(products, basis, quotients)
    found = reduced(products)
    triangle, null = found.triangle(), _is_rounding(found.lengths)
    if bool(null.any()):
        found = reduced(torch.where(null[:, None], basis.gather(-1, order[:, None, :].expand_as(basis)), products))
    turned = found.q()
    broken = failed | ~turned.sum((-2, -1)).isfinite()
    if bool(broken.any()):
        unmoved = torch.arange(order.shape[-1], device=order.device).expand_as(order)
        order = torch.where(broken[:, None], unmoved, order)
        turned = torch.where(broken[:, None, None], basis, turned)
    return turned, triangle, ~(null.any(-1) | broken), order, broken


def _decompose(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, vectors and a mask of success, splitting the batch when no attempt on the whole succeeds."""
    for jitter, dtype in _ATTEMPTS:
        attempt = _attempt(matrices, jitter, dtype)
        if attempt is not None:
            return *attempt, torch.ones(matrices.shape[0], dtype=torch.bool, device=matrices.device)
    if matrices.shape[0] <= 1:
        zeros = torch.zeros(matrices.shape[:-1], dtype=matrices.dtype, device=matrices.device)
        return zeros, matrices, torch.zeros(matrices.shape[0], dtype=torch.bool, device=matrices.device)
    parts = [_decompose(member) for member in matrices.split(1)]
    values, vectors, solved = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return values, vectors, solved


def _attempt(matrices: Tensor, jitter: float, dtype: torch.dtype | None) -> tuple[Tensor, Tensor] | None:
    """Return values and vectors in the dtype of ``matrices``, or ``None`` if that did not work for all of them."""
    work = matrices.to(dtype) if dtype is not None else matrices
    if jitter:
        shift = jitter * torch.finfo(work.dtype).eps
        work = work + shift * torch.eye(work.shape[-1], dtype=work.dtype, device=work.device)
    try:
        values, vectors = torch.linalg.eigh(work)
    except (torch.linalg.LinAlgError, RuntimeError):
        return None
    if not math.isfinite((values.sum() + vectors.sum()).item()):  # both are small where they are finite
        return None
    return values.to(matrices.dtype), vectors.to(matrices.dtype)
