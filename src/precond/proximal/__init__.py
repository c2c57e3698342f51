"""Iterations for composite problems, ``f(x) + g(x)``, and their parts."""

from precond.proximal.accelerated import AcceleratedGradient
from precond.proximal.coordinate import CoordinateDescent
from precond.proximal.descent import BlockDescent
from precond.proximal.fista import FISTA, ProximalGradient
from precond.proximal.newton import ProximalNewton

__all__ = ["FISTA", "AcceleratedGradient", "BlockDescent", "CoordinateDescent", "ProximalGradient", "ProximalNewton"]
