"""Penalties for composite problems, ``f(x) + g(x)``, one file each."""

from precond.penalties.by_name import ByName
from precond.penalties.group import GroupL1
from precond.penalties.l1 import L1, ElasticNet
from precond.penalties.mcp import MCP
from precond.penalties.scad import SCAD
from precond.penalties.within import Box, NonNegative, Within
from precond.penalties.zero import Zero

__all__ = ["L1", "MCP", "SCAD", "Box", "ByName", "ElasticNet", "GroupL1", "NonNegative", "Within", "Zero"]
