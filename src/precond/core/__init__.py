"""The nouns of the library, one file each."""

from precond.core.cadence import Cadence
from precond.core.composite import Composite, CompositeIteration, Spot, Standing
from precond.core.coordinates import Coordinates, rows_of
from precond.core.decay import Decay
from precond.core.distributor import Agreement, Distributor, Duty, Tenant
from precond.core.errors import BadInputError, IncompatibleError, PrecondError, RefreshError, UnknownNameError
from precond.core.evidence import Evidence, absorbed_before, need
from precond.core.extras import MissingExtraError, require
from precond.core.filter import Filter
from precond.core.fixed_point import FixedPointIteration, Footing, Proof, Splitting
from precond.core.iteration import Iteration, Kernel, Look, Map, Progress, Recycling
from precond.core.method import Method, Route, Selector
from precond.core.objective import Arrays, Delegating, Objective, Point
from precond.core.operator import Operator, Saddle
from precond.core.penalty import Concave, NoConcave, Penalty, Scalars
from precond.core.preconditioner import HEALTHY, Health, Preconditioner, Turned
from precond.core.problem import Budget, Metric, Problem
from precond.core.program import Iterate, Program, ProgramIteration, Site
from precond.core.recipe import Builds, Kind, Paper, Recipe
from precond.core.result import Certificate, Member, Result, Status
from precond.core.roles import Role, rests_as
from precond.core.sketch import Embedding, Sketch
from precond.core.space import Choice, LogUniform, Range, Uniform
from precond.core.state import NoState, map_leaves, map_tensors, merge_members, named_tensors, split_members
from precond.core.step import Advance, Constant, Direction, Factor, Search, Shared, StepRule
from precond.core.storage import Full, Resting, Storage, leaves, put_to_rest, wake
from precond.core.traits import Need, OperatorTraits, Scope, Traits
from precond.core.work import Work

__all__ = [
    "HEALTHY",
    "Advance",
    "Agreement",
    "Arrays",
    "BadInputError",
    "Budget",
    "Builds",
    "Cadence",
    "Certificate",
    "Choice",
    "Composite",
    "CompositeIteration",
    "Concave",
    "Constant",
    "Coordinates",
    "Decay",
    "Delegating",
    "Direction",
    "Distributor",
    "Duty",
    "Embedding",
    "Evidence",
    "Factor",
    "Filter",
    "FixedPointIteration",
    "Footing",
    "Full",
    "Health",
    "IncompatibleError",
    "Iterate",
    "Iteration",
    "Kernel",
    "Kind",
    "LogUniform",
    "Look",
    "Map",
    "Member",
    "Method",
    "Metric",
    "MissingExtraError",
    "Need",
    "NoConcave",
    "NoState",
    "Objective",
    "Operator",
    "OperatorTraits",
    "Paper",
    "Penalty",
    "Point",
    "PrecondError",
    "Preconditioner",
    "Problem",
    "Program",
    "ProgramIteration",
    "Progress",
    "Proof",
    "Range",
    "Recipe",
    "Recycling",
    "RefreshError",
    "Resting",
    "Result",
    "Role",
    "Route",
    "Saddle",
    "Scalars",
    "Scope",
    "Search",
    "Selector",
    "Shared",
    "Site",
    "Sketch",
    "Splitting",
    "Spot",
    "Standing",
    "Status",
    "StepRule",
    "Storage",
    "Tenant",
    "Traits",
    "Turned",
    "Uniform",
    "UnknownNameError",
    "Work",
    "absorbed_before",
    "leaves",
    "map_leaves",
    "map_tensors",
    "merge_members",
    "named_tensors",
    "need",
    "put_to_rest",
    "require",
    "rests_as",
    "rows_of",
    "split_members",
    "wake",
]
