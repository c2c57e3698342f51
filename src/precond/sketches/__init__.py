"""Sketches, one file each."""

from precond.sketches.gaussian import Gaussian
from precond.sketches.sparse_sign import CountSketch, SparseSign
from precond.sketches.srht import SRHT

__all__ = ["SRHT", "CountSketch", "Gaussian", "SparseSign"]
