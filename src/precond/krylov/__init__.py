"""Iterations for linear systems and least squares, one file each."""

from precond.krylov.cg import CG

__all__ = ["CG"]
