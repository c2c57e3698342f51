"""Iterations for linear systems and least squares, one file each."""

from precond.krylov.bicgstab import BiCGStab
from precond.krylov.cg import CG
from precond.krylov.fgmres import FGMRES
from precond.krylov.gmres import GMRES
from precond.krylov.lsmr import LSMR
from precond.krylov.lsqr import LSQR
from precond.krylov.minres import MINRES
from precond.krylov.refinement import Refinement
from precond.krylov.run import run

__all__ = ["CG", "FGMRES", "GMRES", "LSMR", "LSQR", "MINRES", "BiCGStab", "Refinement", "run"]
