"""Smooth losses whose structure methods can use: regressions and quadratics, one file each.

Each is a function of torch operations, so that every method can minimize it; block coordinate descent and working sets
also see its columns.
"""

from precond.losses.base import Loss
from precond.losses.linear import LeastSquares, LinearModel, Logistic
from precond.losses.quadratic import Quadratic
from precond.losses.softmax import Softmax

__all__ = ["LeastSquares", "LinearModel", "Logistic", "Loss", "Quadratic", "Softmax"]
