"""How the rows of a window of gradients rest: in full, as a few entries, or as factors of low rank."""

from precond.preconditioners.windows.base import Window
from precond.preconditioners.windows.dense import DenseWindow
from precond.preconditioners.windows.low_rank import LowRankWindow
from precond.preconditioners.windows.sparse import SparseWindow

__all__ = ["DenseWindow", "LowRankWindow", "SparseWindow", "Window"]
