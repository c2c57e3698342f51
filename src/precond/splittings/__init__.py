"""Nonexpansive maps whose fixed points solve convex programs, and the programs."""

from precond.splittings.admm import ADMM
from precond.splittings.convex_program import ConvexProgram
from precond.splittings.douglas_rachford import DouglasRachford
from precond.splittings.pdhg import PDHG

__all__ = ["ADMM", "PDHG", "ConvexProgram", "DouglasRachford"]
