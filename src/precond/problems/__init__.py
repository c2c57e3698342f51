"""Real problems and their loaders."""

from precond.problems.base import (
    Composite,
    CompositeInstance,
    LeastSquares,
    LinearSystem,
    Smooth,
    SmoothInstance,
    Training,
    TrainingInstance,
)
from precond.problems.control import Control, elliptic_control
from precond.problems.convection_diffusion import convection_diffusion
from precond.problems.digits import digits
from precond.problems.load import load
from precond.problems.logistic import logistic
from precond.problems.matrix_market import matrix_market
from precond.problems.nist import nist
from precond.problems.poisson import poisson2d, poisson3d
from precond.problems.registry import all_problems, problem
from precond.problems.sparse_regression import sparse_regression
from precond.problems.stdlib_lm import stdlib_lm
from precond.problems.supervised import supervised

__all__ = [
    "Composite",
    "CompositeInstance",
    "Control",
    "LeastSquares",
    "LinearSystem",
    "Smooth",
    "SmoothInstance",
    "Training",
    "TrainingInstance",
    "all_problems",
    "convection_diffusion",
    "digits",
    "elliptic_control",
    "load",
    "logistic",
    "matrix_market",
    "nist",
    "poisson2d",
    "poisson3d",
    "problem",
    "sparse_regression",
    "stdlib_lm",
    "supervised",
]
