"""Iterations for linear systems and least squares, one file each."""

from precond.krylov.bicgstab import BiCGStab
from precond.krylov.cg import CG
from precond.krylov.dense import Dense
from precond.krylov.fgmres import FGMRES
from precond.krylov.gmres import GMRES
from precond.krylov.lsmr import LSMR
from precond.krylov.lsqr import LSQR
from precond.krylov.minres import MINRES
from precond.krylov.run import run
from precond.krylov.sketch_project import SketchProject

__all__ = ["CG", "FGMRES", "GMRES", "LSMR", "LSQR", "MINRES", "BiCGStab", "Dense", "SketchProject", "run"]
