"""Iterations for fixed points, one file each."""

from precond.fixed.anderson import Anderson
from precond.fixed.halpern import Halpern
from precond.fixed.paired import Paired
from precond.fixed.picard import Picard

__all__ = ["Anderson", "Halpern", "Paired", "Picard"]
