"""What a cycle of GCRO-DR has found, and the directions of it that slow convergence down."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Operator
from precond.krylov.inner import norm
from precond.math.krylov.arnoldi import combined

Matrix = np.ndarray[Any, Any]
_dependent = 1e-12  # directions that the matrix maps to less than this, relative to the others, are not kept


@dataclasses.dataclass
class Directions:
    """Directions ``u`` of a subspace with their images.

    Attributes:
        u: ``U``, shape ``[k, n]``.
        t: ``T`` with ``U = P T`` for the preconditioner they were found with; shape ``[k, n]``.
        c: ``C = A U`` with orthonormal rows, for the matrix they were found with; shape ``[k, n]``.
    """

    u: Tensor
    t: Tensor
    c: Tensor

    @classmethod
    def none(cls, like: Tensor) -> Directions:
        """Return no directions, for vectors like the rows of ``like``."""
        empty = like.new_empty(0, like.shape[-1])
        return cls(empty, empty, empty)

    def moved(self, operator: Operator) -> Directions:
        """Return the same space for another matrix: ``A U = C R`` is made anew; costs ``k`` products."""
        if not len(self.u):
            return self
        q, r = torch.linalg.qr(operator.matvec(self.u).mT)
        sizes = r.diagonal().abs()
        if not bool((sizes > _dependent * sizes.max()).all()):
            return Directions.none(self.u)
        inverse = torch.linalg.inv(r.mT)
        u = inverse @ self.u
        return Directions(u, u if self.t is self.u else inverse @ self.t, q.mT.contiguous())


@dataclasses.dataclass
class Cycle:
    """One cycle: ``A [U; Z] = G^T [C; V]`` in rows, ``Z = P V``.

    Attributes:
        kept: The directions ``U`` that the cycle is orthogonal to, ``k`` of them.
        w: ``[C; V]``, orthonormal; shape ``[k + steps + 1, n]``.
        z: ``P V``, shape ``[steps, n]``.
        g: Coefficients of ``A Z``, shape ``[k + steps + 1, steps]``.
        plain: Nothing preconditions: ``Z = V`` and ``U = T``.
        done: Steps done.
        current: It is handed on within one system, where ``A U = C`` need not be made anew.
    """

    kept: Directions
    w: Tensor
    z: Tensor
    g: Matrix
    plain: bool = False
    done: int = 0
    current: bool = False

    def deflated(self, keep: int) -> Directions:
        """Return the harmonic Ritz vectors of least Ritz value in the space of the cycle, ``keep`` of them."""
        return self.restarted(keep, None, None)[0]

    def restarted(
        self, keep: int, step: Matrix | None, rest: Matrix | None
    ) -> tuple[Directions, Tensor | None, Tensor | None]:
        """Return `deflated`, and two vectors more, in the same passes over the memory.

        With ``D`` scaling ``T`` to unit rows, ``Vhat = [D T; V]``, ``What = [C; V]`` and ``A P Vhat = What Ghat``
        (as columns), they solve ``Ghat^H Ghat z = theta Ghat^H What^H Vhat z``. A real pair of conjugates is
        kept or left out together.

        Args:
            keep: Directions, at most.
            step: Coefficients of a vector in ``[U; Z]``, shape ``[k + done]``.
            rest: Those of a vector in ``[C; V]``, shape ``[k + done + 1]``; what it has along the new images is taken
                from it, as only rounding has put it there.

        Returns:
            The directions, and both vectors.
        """
        k, j = len(self.kept.u), self.done
        w, v, found = self.w[: k + j + 1], self.w[k : k + j], self._combinations(keep)
        z = v if self.plain else self.z[:j]
        if found is None:
            moved = None if step is None else combined(step[None], self.kept.u, z)[0]
            return self.kept, moved, None if rest is None else combined(rest[None], w)[0]
        mix, image = found
        if rest is not None:
            image = np.vstack([image, rest - (image.conj() @ rest) @ image])
        all_rows = mix if step is None else np.vstack([mix, step])
        u, c = combined(all_rows, self.kept.u, z), combined(image, w)
        count = len(mix)
        moved, left, u, c = None if step is None else u[-1], None if rest is None else c[-1], u[:count], c[:count]
        return Directions(u, u if self.plain else combined(mix, self.kept.t, v), c), moved, left

    def _combinations(self, keep: int) -> tuple[Matrix, Matrix] | None:
        """Return the coefficients of new directions in ``[U; Z]``, and of their images in ``[C; V]``, as rows.

        ``None`` where there are none that are any better than those at hand.
        """
        k, j = len(self.kept.u), self.done
        if j == 0 or keep == 0:
            return None
        w, size = self.w[: k + j + 1], (1 / norm(self.kept.t)).cpu().numpy().astype(self.g.real.dtype)
        ghat = np.zeros((k + j + 1, k + j), self.g.dtype)
        ghat[range(k), range(k)] = size
        ghat[:, k:] = self.g[: k + j + 1, :j]
        overlap = np.zeros_like(ghat)
        if k:
            overlap[:, :k] = (self.kept.t @ w.mH).mT.cpu().numpy() * size
        overlap[range(k, k + j), range(k, k + j)] = 1
        space = _least(ghat, overlap, keep)
        q, r = np.linalg.qr(ghat @ space)
        sizes = np.abs(r.diagonal())
        if not (np.isfinite(sizes).all() and sizes.min() > _dependent * sizes.max()):
            return None
        mix = np.linalg.solve(r.T, space.T)  # rows are coefficients of the new directions
        mix[:, :k] *= size
        return mix, q.T


def _least(ghat: Matrix, overlap: Matrix, keep: int) -> Matrix:
    """Return coefficients (as columns) of the harmonic Ritz vectors with the least values, real where ``ghat`` is."""
    q, r = np.linalg.qr(ghat)
    sizes = np.abs(r.diagonal())
    if sizes.min() > _dependent * sizes.max():
        inverse = np.linalg.solve(r, q.conj().T @ overlap)  # its eigenvalues are the reciprocals
    else:
        inverse = np.linalg.lstsq(ghat, overlap, rcond=None)[0]
    values, vectors = np.linalg.eig(inverse)
    order = np.argsort(-np.abs(values), kind="stable")
    keep = min(keep, len(order))
    if np.iscomplexobj(ghat):
        return vectors[:, order[:keep]].astype(ghat.dtype)
    columns: list[Matrix] = []
    for index in order:
        value, vector = values[index], vectors[:, index]
        if value.imag < 0:  # its conjugate has brought both parts
            continue
        parts = [vector.real] if value.imag == 0 else [vector.real, vector.imag]
        if len(columns) + len(parts) > keep:
            break
        columns += parts
    return np.stack(columns, axis=1).astype(ghat.dtype) if columns else vectors[:, order[:1]].real.astype(ghat.dtype)
