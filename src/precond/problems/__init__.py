"""Real problems and their loaders."""

from precond.problems.base import (
    LeastSquares,
    LinearSystem,
    Smooth,
    SmoothInstance,
    Training,
    TrainingInstance,
)
from precond.problems.digits import digits
from precond.problems.load import load
from precond.problems.registry import all_problems, problem
from precond.problems.supervised import supervised

__all__ = [
    "LeastSquares",
    "LinearSystem",
    "Smooth",
    "SmoothInstance",
    "Training",
    "TrainingInstance",
    "all_problems",
    "digits",
    "load",
    "problem",
    "supervised",
]
