"""An evaluation of a function that sees a vector through a constant matrix: its gradient, its Hessian in few passes.

Regressions are ``f(x) = F(A w, x)`` with a matrix ``A`` of data and ``w`` some of the variables, and ``F`` acts on each
row of ``A w`` by itself. Their Hessian ``A' D A + E`` costs a few derivatives of ``F``, in which ``A`` does not occur,
and one pass over ``A``, where products with unit vectors would cost two passes each.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.losses.features import Features
from precond.math.dense.weighted_gram import weighted_gram
from precond.math.machine.backward import pull
from precond.operators.hessian import along, or_zero
from precond.solvers.smooth.affine_sketch import row_roots, sketched_rows

WIDEST = 32
"""Columns of ``A w``, and variables beside ``w``, that are worth the derivatives of ``F`` along each."""
NARROW = 64
"""Columns of ``A`` below which its Gram matrix costs less than a sketch."""
_TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True)
class Places:
    """Where ``w`` lies in the flat vector ``x``.

    Attributes:
        view: Shape, strides and offset of ``w`` as a view of ``x``.
        index: The places, ``[d]`` or ``[d, k]``.
        rest: The places of the variables outside ``w``, ascending.
        inside: Which variables are in ``w``, as zeros and ones, ``[n]``.
    """

    view: tuple[tuple[int, ...], tuple[int, ...], int]
    index: Tensor
    rest: list[int]
    inside: Tensor

    @classmethod
    def of(cls, view: tuple[tuple[int, ...], tuple[int, ...], int], leaf: Tensor) -> Places:
        """Find the places of a view."""
        index = torch.arange(leaf.numel(), device=leaf.device).as_strided(*view)
        inside = torch.zeros_like(leaf, requires_grad=False).index_fill(0, index.reshape(-1), 1.0)
        return cls(view, index, (inside == 0).nonzero()[:, 0].tolist(), inside)

    @property
    def all(self) -> bool:
        """Whether ``w`` is ``x``."""
        return self.index.ndim == 1 and not self.rest and self.view[1] == (1,)

    def blocks(self, matrix: Tensor) -> Tensor:
        """Return the entries of a matrix ``[n, n]`` whose row and column are in ``w``, as a view ``[d, k, d, k]``."""
        shape, strides, offset = self.view
        shape, strides = (*shape, 1)[:2], (*strides, 0)[:2]
        across, down = matrix.stride()
        turned = (*(across * stride for stride in strides), *(down * stride for stride in strides))
        return matrix.as_strided((*shape, *shape), turned, matrix.storage_offset() + offset * (across + down))


Seen = tuple[Features, Places]


@dataclasses.dataclass(frozen=True)
class Bent:
    """The second derivatives of ``F``: diagonal in ``x``, a small matrix for each row of ``z``, a few variables beside.

    Attributes:
        diagonal: ``F_xx`` at the variables ``w``, ``[n]``.
        rows: Columns of the matrices, each ``[m, k]``.
        beside: For each variable outside ``w``, its place, and its column in ``F_xx`` and ``F_zx``.
    """

    diagonal: Tensor
    rows: list[Tensor]
    beside: list[tuple[int, Tensor, Tensor]]

    def apply(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``F_xx v + F_xz u`` and ``F_zx v + F_zz u``."""
        by_x, many = self.diagonal * v, u.reshape(len(u), -1)
        by_z = self.rows[0] * many[:, :1]
        for j, block in enumerate(self.rows[1:], start=1):
            by_z = by_z + block * many[:, j, None]
        for i, column, shared in self.beside:
            by_z = by_z + v[i] * shared
            by_x = by_x + v[i] * column
        for i, column, shared in self.beside:
            by_x[i] = (column * v).sum() + (shared * many).sum()
        return by_x, by_z.reshape(u.shape)


@dataclasses.dataclass
class Split:
    """An evaluation of ``F(z, x)`` at ``z = A w``, with its derivatives by ``z`` and ``x``.

    Attributes:
        features: ``A``.
        places: Where ``w`` lies in the flat vector.
        leaf: ``x``, ``[n]``.
        z: ``A w`` as a leaf of its own, ``[m]`` or ``[m, k]``.
        loss: The value with its graph, 0-d.
        by_x: ``F_x`` with its graph, ``[n]``.
        by_z: ``F_z`` with its graph, shaped as ``z``.
    """

    features: Features
    places: Places
    leaf: Tensor
    z: Tensor
    loss: Tensor
    by_x: Tensor
    by_z: Tensor
    _bent: Bent | None = None
    _matrix: dict[bool, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def seen(self) -> Seen:
        """What the next point will need of this one."""
        return self.features, self.places

    def gradient(self) -> Tensor:
        """Return ``F_x + A' F_z``, ``[n]``, detached."""
        return self._pull(self.by_x.detach(), self.by_z.detach())

    def products(self, v: Tensor) -> Tensor:
        """Return the Hessian's product with each row of ``v``, ``[k, n]``."""
        if self._bent is None or self.z.ndim > 1 or self._bent.beside:
            return torch.stack([self.product(row) for row in v])
        u = self.features.forward(v[:, self.places.index].mT) * self._bent.rows[0]
        return (v * self._bent.diagonal).index_add(1, self.places.index, self.features.adjoint(u).mT)

    def product(self, v: Tensor) -> Tensor:
        """Return the Hessian's product with ``v``, ``[n]``."""
        u = self.features.forward(v if self.places.all else v[self.places.index])
        return self._pull(*(self._second(v, u) if self._bent is None else self._bent.apply(v, u)))

    def assemble(self, *, coarse: bool) -> Tensor | None:
        """Return the Hessian, ``[n, n]``; ``None`` where ``F`` is not one function for each row and a few variables.

        Args:
            coarse: Single precision will do.

        Returns:
            The matrix, or ``None``.
        """
        kept = self._matrix.get(coarse)
        bent = self.bend() if kept is None else None
        if kept is not None or bent is None:
            return kept
        if self.places.all:
            matrix = self.features.gram(bent.rows[0][:, 0], coarse=coarse)
            matrix.diagonal().add_(bent.diagonal)
            self._matrix[coarse] = matrix = matrix.to(self.leaf)
            return matrix
        matrix = self._frame(bent)
        bends = torch.stack(bent.rows)
        pairs = self.features.coupled(len(bends), lambda a, b: bends[a, :, b], coarse=coarse)
        self.places.blocks(matrix).add_(pairs.permute(2, 0, 3, 1))
        self._matrix[coarse] = matrix = matrix.to(self.leaf)
        return matrix

    def block(self, index: Tensor) -> Tensor | None:
        """Return some rows and the same columns of the Hessian; ``None`` where they are not those of a Gram matrix."""
        bent = self.bend() if self.places.all else None
        gram = None if bent is None else self.features.block(index, bent.rows[0][:, 0])
        return gram if gram is None or bent is None else gram.add(torch.diag(bent.diagonal[index]))

    def approximate(self, size: int, seed: int) -> Tensor | None:
        """Return a random matrix near the Hessian: ``A' |D| A`` by a sketch of ``|D|^(1/2) A``, the rest as it is.

        Where ``F`` is convex in each row of ``A w`` the eigenvalues of the sketched part, relative to what it stands
        for, lie within ``(1 +- (d / size)^(1/2))^2``, nearly. (M. Pilanci, M. J. Wainwright, *Newton sketch: a
        near linear-time optimization algorithm with linear-quadratic convergence*, arXiv 1505.02250.)

        A matrix of few columns, or not twice as many rows as the sketch, is not sketched: the Hessian is assembled.

        Args:
            size: Rows of the sketch.
            seed: Equal seeds give equal matrices.

        Returns:
            The matrix, ``[n, n]``; ``None`` where ``F`` is not one function for each row and a few variables.
        """
        bent = self.bend()
        if bent is None:
            return None
        m, d = self.features.matrix.shape
        if d < NARROW or 2 * size >= m * len(bent.rows):
            return self.assemble(coarse=False)
        matrix = self._frame(bent)
        rows = sketched_rows(self.features.rows, row_roots(torch.stack(bent.rows, dim=2)), size, seed)
        places = self.places.index.reshape(-1, len(bent.rows)).mT.reshape(-1)
        matrix[places[:, None], places] += weighted_gram(rows, torch.ones_like(rows[:, 0]))
        return matrix.to(self.leaf)

    def _frame(self, bent: Bent) -> Tensor:
        """Return the part of the Hessian that does not come from rows alone, ``[n, n]``, float64."""
        matrix = torch.diag(bent.diagonal.double())
        for i, column, shared in bent.beside:
            matrix[:, i] = matrix[i] = self._pull(column, shared.reshape(self.z.shape)).double()
        return matrix

    def bend(self) -> Bent | None:
        """Return the second derivatives of ``F``, confirmed by random vectors at first; ``None`` if they differ."""
        if self._bent is not None:
            return self._bent
        leaf, z, rest = self.leaf, self.z, self.places.rest
        columns = 1 if z.ndim == 1 else z.shape[1]
        if max(columns, len(rest)) > WIDEST:
            return None
        units = torch.ones_like(z)[None]
        if z.ndim == 2:
            units = torch.eye(columns, dtype=z.dtype, device=z.device)[:, None].expand(-1, len(z), -1).contiguous()
        diagonal, shared = self._second(self.places.inside, units[0])  # nothing couples them, which is confirmed below
        rows = [each.reshape(-1, columns) for each in (shared, *(self._by_z(unit) for unit in units[1:]))]
        beside = []
        for i in rest:
            column, shared = self._second(
                torch.zeros_like(leaf).index_fill(0, torch.tensor(i, device=leaf.device), 1.0), torch.zeros_like(z)
            )
            beside.append((i, column, shared.reshape(len(z), columns)))
        bent = Bent(diagonal * self.places.inside if rest else diagonal, rows, beside)
        if not self.features.trusted:
            signs = torch.Generator().manual_seed(0)
            v, u = ((torch.randint(0, 2, t.shape, generator=signs) * 2 - 1).to(t) for t in (leaf, z))
            if not all(map(close, bent.apply(v, u), self._second(v, u))):
                return None
            self.features.trusted = True
        self._bent = bent
        return bent

    def _second(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``F_xx v + F_xz u`` and ``F_zx v + F_zz u``."""
        pairs = [(g, s) for g, s in ((self.by_x, v), (self.by_z, u)) if g.requires_grad]
        if not pairs:
            return torch.zeros_like(self.leaf), torch.zeros_like(self.z)
        with torch.enable_grad():
            slope = along(*pairs[0]) if len(pairs) == 1 else along(*pairs[0]) + along(*pairs[1])
        by_x, by_z = torch.autograd.grad(slope, (self.leaf, self.z), retain_graph=True, allow_unused=True)
        return or_zero(by_x, self.leaf), or_zero(by_z, self.z)

    def _by_z(self, u: Tensor) -> Tensor:
        """Return ``F_zz u``."""
        if not self.by_z.requires_grad:
            return torch.zeros_like(self.z)
        return or_zero(pull(self.by_z, self.z, u), self.z)

    def _pull(self, by_x: Tensor, by_z: Tensor) -> Tensor:
        pulled = self.features.adjoint(by_z)
        if self.places.all:
            return by_x + pulled
        return by_x.index_add(0, self.places.index.reshape(-1), pulled.reshape(-1))


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal but for rounding, relative to their largest entries."""
    size = torch.maximum(a.abs().max(), b.abs().max()) if a.numel() else a.sum()
    tolerance = max(_TOLERANCE, 100 * torch.finfo(a.dtype).eps)
    return bool((a - b).abs().max() <= tolerance * size) if a.numel() else True
