"""Examples of parts that cannot be built without arguments, by class name; every other part is built as it is.

Each value returns instances that together show what the part can do; the laws also run on everything that the recipes
put together. Imports stand inside, so that this table can be read without loading the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _amg() -> list[Any]:
    from precond.preconditioners.amg import AMG

    return [AMG(), AMG(coarsest=2), AMG("ruge-stuben", coarsest=2, strength=0.25)]


def _circulant() -> list[Any]:
    from precond.preconditioners.circulant import Circulant

    return [Circulant(), Circulant("strang")]


def _schwarz() -> list[Any]:
    from precond.preconditioners.schwarz import Schwarz

    return [Schwarz(), Schwarz(2, 0), Schwarz(2, 1)]


def _blocked() -> list[Any]:
    from precond.preconditioners.blocked import Blocked
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.polar import Polar
    from precond.preconditioners.rotate import Rotate

    return [Blocked(2, Rotate(Eigenbasis(), Diagonal(0.95))), Blocked(2, Kronecker()), Blocked(3, Polar(0))]


def _blockwise() -> list[Any]:
    from precond.storage.blockwise import Blockwise

    return [Blockwise(8, block=16, least=0), Blockwise(4, block=8, least=0, rectify=1), Blockwise(least=0), Blockwise()]


def _by_role() -> list[Any]:
    import torch

    from precond.storage.blockwise import Blockwise
    from precond.storage.by_role import ByRole
    from precond.storage.packed import Packed

    eight = Blockwise(8, block=16, least=0)
    return [ByRole(signed=eight, symmetric=Packed(torch.bfloat16)), ByRole(orthogonal=eight, root=eight)]


def _chain() -> list[Any]:
    from precond.filters.chain import Chain
    from precond.filters.clip import ClipNorm
    from precond.filters.ema import EMA
    from precond.filters.mars import Mars

    return [Chain(), Chain((Mars(from_zero=True), ClipNorm(), EMA()))]


def _compensated() -> list[Any]:
    from precond.storage.compensated import Compensated

    return [Compensated(block=8, least=0)]


def _decomposed() -> list[Any]:
    from precond.preconditioners.decomposed import Decomposed
    from precond.preconditioners.decompositions import Cholesky, Spectrum

    return [Decomposed(Spectrum()), Decomposed(Cholesky()), Decomposed(Spectrum(), every=3)]


def _error_feedback() -> list[Any]:
    from precond.filters.error_feedback import ErrorFeedback, LowRank, TopK

    return [ErrorFeedback(), ErrorFeedback(TopK(0.4, block=3, half=False)), ErrorFeedback(LowRank(), feedback=False)]


def _fisher_window() -> list[Any]:
    from precond.preconditioners.fisher_window import FisherWindow
    from precond.preconditioners.windows import DenseWindow, LowRankWindow, SparseWindow

    windows = [DenseWindow(), SparseWindow(0.5), SparseWindow(0.4, block=4, half=False), LowRankWindow(2)]
    return [FisherWindow(5, 0.1, window) for window in windows] + [FisherWindow(5, per_tensor=True)]


def _fitted(name: str) -> list[Any]:
    import importlib

    module = importlib.import_module(f"precond.preconditioners.{name}")
    part = getattr(module, "".join(word.title() for word in name.split("_")))
    return [part(), part(criterion="newton", init_scale=0.5), part(lr=0.5, criterion="newton")]


def _graft() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.graft import Graft
    from precond.preconditioners.kronecker import Kronecker

    return [Graft(direction=Kronecker(), magnitude=Diagonal()), Graft(Kronecker(), Diagonal(), start=5)]


def _inverse_of() -> list[Any]:
    from precond.krylov.cg import CG
    from precond.preconditioners.identity import Identity
    from precond.preconditioners.inverse_of import InverseOf
    from precond.preconditioners.jacobi import Jacobi

    return [InverseOf(CG(), Identity()), InverseOf(CG(), Jacobi())]


def _as_matrix() -> list[Any]:
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.merged import AsMatrix

    return [AsMatrix(Kronecker())]


def _kronecker() -> list[Any]:
    from precond.math.factors.root_methods import AdaptiveQR, Damped
    from precond.preconditioners.kronecker import Kronecker

    adaptive = Kronecker(0.9, 0.0, root=AdaptiveQR(damping=1e-6), debias=True, tolerated=2)
    damped = Kronecker(0.9, 0.0, root=Damped(1e-6), one_sided=True)
    return [Kronecker(), adaptive, damped, Kronecker(block=2), Kronecker(one_sided=True, half=True)]


def _mars() -> list[Any]:
    from precond.filters.mars import Mars

    return [Mars(), Mars(exact=True), Mars(from_zero=True)]


def _merged() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.merged import Merged
    from precond.preconditioners.rotate import Rotate

    turned = Merged(Rotate(Eigenbasis(one_sided=True, vectors=True, tolerance=0.2), Diagonal(0.95)), 4, "right")
    return [Merged(Kronecker(), limit=6), Merged(Diagonal()), turned]


def _observing() -> list[Any]:
    from precond.filters.adan import LookAhead
    from precond.filters.clip import ClipNorm
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.observing import Observing

    return [Observing(LookAhead(), Diagonal()), Observing(ClipNorm(), Kronecker())]


def _filter_per_matrix() -> list[Any]:
    from precond.filters.clip import ClipNorm
    from precond.filters.per_matrix import FilterPerMatrix
    from precond.math.tensors.stacks import Stack

    return [FilterPerMatrix(Stack(), ClipNorm())]


def _bias_corrected() -> list[Any]:
    from precond.steps.bias_corrected import BiasCorrected
    from precond.steps.match_rms import MatchRMS

    return [BiasCorrected(MatchRMS())]


def _factor_per_matrix() -> list[Any]:
    from precond.math.tensors.stacks import Stack
    from precond.steps.match_rms import MatchRMS
    from precond.steps.per_matrix import FactorPerMatrix

    return [FactorPerMatrix(Stack(), MatchRMS())]


def _per_matrix() -> list[Any]:
    from precond.math.tensors.stacks import Stack
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.per_matrix import PerMatrix
    from precond.preconditioners.rotate import Rotate

    return [PerMatrix(Stack(), Kronecker()), PerMatrix(Stack(), Rotate(Eigenbasis(), Diagonal(0.95)))]


def _shared_per_matrix() -> list[Any]:
    from precond.math.tensors.stacks import Stack
    from precond.steps.noise_adaptive import NoiseAdaptive
    from precond.steps.per_matrix import SharedPerMatrix

    return [SharedPerMatrix(Stack(), NoiseAdaptive())]


def _off_diagonal() -> list[Any]:
    from precond.storage.off_diagonal import OffDiagonal

    return [OffDiagonal(block=8, least=0)]


def _packed() -> list[Any]:
    import torch

    from precond.storage.packed import Packed

    return [Packed(), Packed(torch.bfloat16)]


def _rotate() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.fitted_eigenbasis import FittedEigenbasis
    from precond.preconditioners.rotate import Rotate

    bases = [Eigenbasis(), Eigenbasis(block=2), Eigenbasis(one_sided=True, half=True)]
    fitted = [FittedEigenbasis(), FittedEigenbasis(block=2, half=True), FittedEigenbasis(vectors=True, tolerance=0.2)]
    return [
        *(Rotate(basis, Diagonal(0.95)) for basis in [*bases, *fitted]),
        Rotate(Eigenbasis(max_dim=3), Diagonal(0.95, eps_first=True)),
    ]


def _within() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.kullback_leibler import KLKronecker
    from precond.preconditioners.within import Within

    return [Within(KLKronecker(), Diagonal(0.95))]


def _deflation() -> list[Any]:
    from precond.preconditioners.deflation import Aggregates, Deflation
    from precond.preconditioners.identity import Identity
    from precond.preconditioners.jacobi import Jacobi

    return [Deflation(Aggregates(2), Jacobi()), Deflation(Aggregates(3), Identity())]


def _of_matrix() -> list[Any]:
    import torch

    from precond.operators import as_operator
    from precond.preconditioners.jacobi import Jacobi
    from precond.preconditioners.of_matrix import OfMatrix

    return [OfMatrix(Jacobi(), as_operator(torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))))]


def _sketch_qr() -> list[Any]:
    from precond.preconditioners.sketch_qr import SketchQR
    from precond.sketches import SparseSign

    return [SketchQR(SparseSign())]


def _structured_secant() -> list[Any]:
    from precond.preconditioners.dense_inverse import DenseInverse
    from precond.steps.structured_secant import StructuredSecant
    from precond.steps.trust_region import TrustRegion

    return [StructuredSecant(TrustRegion(1.0), DenseInverse("more"))]


EXAMPLES: dict[str, Callable[[], list[Any]]] = {
    "StructuredSecant": _structured_secant,
    "AMG": _amg,
    "Circulant": _circulant,
    "Schwarz": _schwarz,
    "AsMatrix": _as_matrix,
    "Blocked": _blocked,
    "Blockwise": _blockwise,
    "ByRole": _by_role,
    "Chain": _chain,
    "Compensated": _compensated,
    "Decomposed": _decomposed,
    "ErrorFeedback": _error_feedback,
    "FisherWindow": _fisher_window,
    "FittedAffine": lambda: _fitted("fitted_affine"),
    "FittedKron": lambda: _fitted("fitted_kron"),
    "FittedLowRank": lambda: _fitted("fitted_low_rank"),
    "Deflation": _deflation,
    "BiasCorrected": _bias_corrected,
    "FactorPerMatrix": _factor_per_matrix,
    "FilterPerMatrix": _filter_per_matrix,
    "Graft": _graft,
    "InverseOf": _inverse_of,
    "Kronecker": _kronecker,
    "Mars": _mars,
    "Merged": _merged,
    "Observing": _observing,
    "OfMatrix": _of_matrix,
    "PerMatrix": _per_matrix,
    "OffDiagonal": _off_diagonal,
    "Packed": _packed,
    "Rotate": _rotate,
    "SketchQR": _sketch_qr,
    "SharedPerMatrix": _shared_per_matrix,
    "Within": _within,
}
