"""Iterations for linear systems and least squares, one file each."""

from precond.krylov.cg import CG
from precond.krylov.gmres import GMRES
from precond.krylov.lsqr import LSQR
from precond.krylov.minres import MINRES
from precond.krylov.run import run

__all__ = ["CG", "GMRES", "LSQR", "MINRES", "run"]
