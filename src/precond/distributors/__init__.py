"""Distributors: where parameters live and who computes them; one file each."""

from precond.distributors.data_parallel import DataParallel
from precond.distributors.local import Local
from precond.distributors.sharded import Sharded

__all__ = ["DataParallel", "Local", "Sharded"]
