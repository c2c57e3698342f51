"""GCRO-DR: restarts keep a deflated subspace, and a sequence of systems hands it on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Map, Operator, Progress, Recycling, Status
from precond.krylov.inner import norm, numbers
from precond.krylov.lockstep import lockstep
from precond.math.arnoldi import Small, extend

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
    """

    kept: Directions
    w: Tensor
    z: Tensor
    g: Matrix
    plain: bool = False
    done: int = 0

    def deflated(self, keep: int) -> Directions:
        """Return the harmonic Ritz vectors of least Ritz value in the space of the cycle, ``keep`` of them.

        With ``D`` scaling ``T`` to unit rows, ``Vhat = [D T; V]``, ``What = [C; V]`` and ``A P Vhat = What Ghat``
        (as columns), they solve ``Ghat^H Ghat z = theta Ghat^H What^H Vhat z``. A real pair of conjugates is
        kept or left out together.
        """
        k, j = len(self.kept.u), self.done
        if j == 0 or keep == 0:
            return self.kept
        size = 1 / norm(self.kept.t)
        t = self.kept.t * size[:, None]
        u = t if self.plain else self.kept.u * size[:, None]
        w = self.w[: k + j + 1]
        ghat = np.zeros((k + j + 1, k + j), self.g.dtype)
        ghat[range(k), range(k)] = size.cpu().numpy()
        ghat[:, k:] = self.g[: k + j + 1, :j]
        overlap = np.zeros_like(ghat)
        overlap[:, :k] = (w.conj() @ t.mT).cpu().numpy()
        overlap[range(k, k + j), range(k, k + j)] = 1
        space = _least(ghat, overlap, keep)
        q, r = np.linalg.qr(ghat @ space)
        sizes = np.abs(r.diagonal())
        if not (np.isfinite(sizes).all() and sizes.min() > _dependent * sizes.max()):
            return self.kept
        mix = np.linalg.solve(r.T, space.T)  # rows are coefficients of the new directions
        mixed, image = (torch.from_numpy(np.ascontiguousarray(a)).to(w) for a in (mix, q.T))
        before = mixed[:, :k] @ t + mixed[:, k:] @ w[k : k + j]
        after = before if self.plain else mixed[:, :k] @ u + mixed[:, k:] @ self.z[:j]
        return Directions(after, before, image @ w)


@dataclasses.dataclass
class Recycled:
    """What GCRO-DR remembers between systems: the last cycle of each row."""

    cycles: dict[int, Cycle] = dataclasses.field(default_factory=dict)


@final
@dataclasses.dataclass(frozen=True)
class GCRODR(Recycling[Recycled]):
    """GCRO with deflated restarting for any square ``A``, preconditioned from the right, with recycling.

    ``U`` holds ``k`` directions with ``A U = C``, ``C^H C = I``. A cycle starts at ``r = b - A x``, orthogonal to
    ``C``, and runs the Arnoldi process of ``(I - C C^H) A P``, so that with ``Z = P V``::

        A Z = C B + V_{+1} H,        y minimizes  || beta e_0 - H y ||,        x + Z y - U B y

    has the least residual over ``x + span(U, Z)``. After a cycle ``U`` becomes the span of the harmonic Ritz vectors
    of ``A P`` with the least Ritz values in that space: what slows GMRES down after a restart is kept. Where the
    iteration is given a `Recycled`, it starts with the space that the system before left in it: ``A U`` is made anew
    (``k`` products), orthonormalized, and ``x`` moved to the least residual over ``x + span(U)``. That projection is
    the first item that follows the start.

    (M. L. Parks, E. de Sturler, G. Mackey, D. D. Johnson, S. Maiti, *Recycling Krylov subspaces for sequences of linear
    systems*, 2006.) ``Z`` is kept, so the preconditioner may change in every step, as in L. M. Carvalho, S. Gratton,
    R. Lago, X. Vasseur, *A flexible generalized conjugate residual method with inner orthogonalization and deflated
    restarting*, 2011. A vector is orthogonalized twice when the first projection leaves less than a tenth of it.

    Each row of ``b`` is a system of its own, with a space of its own.

    Attributes:
        size: Largest dimension of a cycle's space, ``m``.
        keep: Directions kept at a restart and between systems, ``k``.
    """

    size: int = 40
    keep: int = 20

    fixed_preconditioner: ClassVar[bool] = False
    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that a cycle has room for a step."""
        if not 0 <= self.keep < self.size:
            raise BadInputError(f"gcrodr needs 0 <= keep < size, not keep={self.keep} and size={self.size}")

    def memory(self) -> Recycled:
        """Return an empty memory."""
        return Recycled()

    def recycle(
        self, memory: Recycled, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Yield the progress at ``x0``, after the projection on the recycled space if any, then after each step."""
        return lockstep([
            self._row(memory, row, operator, b[row : row + 1], precondition, x0[row : row + 1])
            for row in range(len(b))
        ])  # fmt: skip

    def _row(
        self, memory: Recycled, row: int, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        eps, n = torch.finfo(b.dtype).eps, b.shape[1]
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        last = memory.cycles.pop(row, None)
        kept = Directions.none(b)
        if last is not None and bool(r.any()):
            kept = last.deflated(self.keep).moved(operator)
        if len(kept.u):
            along = r @ kept.c.mH
            x, r = x + along @ kept.u, r - along @ kept.c
            yield Progress(norm(r), x.clone)
        while True:
            beta = float(norm(r))
            if beta == 0:
                yield Progress(norm(r), x.clone, solved=True)
                return
            k = len(kept.u)
            steps = max(1, min(self.size, n) - k)
            cycle = memory.cycles[row] = Cycle(
                kept, b.new_empty(k + steps + 1, n), b.new_empty(steps, n),
                np.zeros((k + steps + 1, steps), _numpy(b)), kept.t is kept.u,
            )  # fmt: skip
            cycle.w[:k] = kept.c
            torch.div(r[0], beta, out=cycle.w[k])
            small = Small.start(np.array([beta]), steps, is_complex=b.is_complex())
            h, alive = np.zeros((1, k + steps + 1), small.right.dtype), np.ones(1, bool)
            for j in range(steps):
                v = cycle.w[k + j : k + j + 1]
                z = precondition(v)
                cycle.plain = cycle.plain and z.data_ptr() == v.data_ptr()
                cycle.z[j] = z[0]
                before, after = extend(cycle.w[None], operator.matvec(z), k + j, alive, h)
                cycle.g[: k + j + 1, j], cycle.g[k + j + 1, j] = h[0, : k + j + 1], after[0]
                residual = small.append(h[:, k:], after, eps * before, j)
                cycle.done = j + 1
                step = _Step(x, cycle, small, j + 1)
                if not alive[0]:
                    solved = bool(residual[0] <= 10 * eps * beta)
                    failure = None if solved else Status.FAILED_BREAKDOWN
                    yield Progress(numbers(residual, b), step.solution, failure=failure, solved=solved)
                    return
                yield Progress(numbers(residual, b), step.solution)
            x = step.solution()
            kept = cycle.deflated(self.keep)
            r = b - operator.matvec(x)
            r = r - (r @ kept.c.mH) @ kept.c  # it is orthogonal but for rounding


@dataclasses.dataclass(frozen=True)
class _Step:
    """What the iterate after ``size`` steps of a cycle is made of."""

    x: Tensor
    cycle: Cycle
    small: Small
    size: int

    def solution(self) -> Tensor:
        """Return ``x + Z y - U B y``."""
        k, y = len(self.cycle.kept.u), self.small.minimizer(self.size)[0]
        by = self.cycle.g[:k, : self.size] @ y
        y, by = (torch.from_numpy(np.ascontiguousarray(a)).to(self.x) for a in (y, by))
        return self.x + y @ self.cycle.z[: self.size] - by @ self.cycle.kept.u


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


def _numpy(like: Tensor) -> np.dtype[Any]:
    return torch.empty(0, dtype=like.dtype).numpy().dtype
