"""Iterations for linear systems and least squares, one file each."""

from precond.krylov.bicgstab import BiCGStab
from precond.krylov.block_cg import BlockCG
from precond.krylov.cg import CG
from precond.krylov.chebyshev import Chebyshev
from precond.krylov.dense import Dense
from precond.krylov.fgmres import FGMRES
from precond.krylov.gcrodr import GCRODR
from precond.krylov.gmres import GMRES
from precond.krylov.idr import IDR
from precond.krylov.lsmr import LSMR
from precond.krylov.lsqr import LSQR
from precond.krylov.minres import MINRES
from precond.krylov.refinement import Refinement
from precond.krylov.richardson import Richardson
from precond.krylov.run import run
from precond.krylov.sketch_project import SketchProject
from precond.krylov.sor import SOR

__all__ = [
    "CG", "FGMRES", "GCRODR", "GMRES", "IDR", "LSMR", "LSQR", "MINRES", "SOR", "BiCGStab", "BlockCG", "Chebyshev",
    "Dense", "Refinement", "Richardson", "SketchProject", "run",
]  # fmt: skip
