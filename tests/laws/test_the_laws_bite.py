"""Each law goes red on a part that breaks it: a law that cannot fail protects nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from precond.core import Evidence, Filter, Preconditioner, Scope, Traits, need
from tests.laws import filters as filter_laws
from tests.laws import preconditioners as laws


@dataclasses.dataclass
class State:
    factor: Tensor


@dataclasses.dataclass(frozen=True)
class Good(Preconditioner[State]):
    """Divides by one plus the mean square of all gradients seen, entry by entry; keeps every law."""

    scope: ClassVar[Scope] = Scope.ELEMENTWISE

    @property
    def traits(self) -> Traits:
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> State:
        return State(torch.zeros_like(like))

    def observe(self, state: State, evidence: Evidence) -> None:
        state.factor.lerp_(need(evidence.gradient, "gradient").square(), 0.1)

    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v / (1 + state.factor + shift)


class ReadsValues(Good):
    def init(self, like: Tensor) -> State:
        return State(like.clone())


class ForgetsTheBatch(Good):
    def init(self, like: Tensor) -> State:
        return State(torch.zeros(like.shape[1:], dtype=like.dtype, device=like.device))


class NotLinear(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v.sign()


class NotSymmetric(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v + v.flatten(1).roll(1, 1).view_as(v)


class NotDefinite(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return -v / (1 + state.factor)


class WritesToItsArgument(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v.div_(1 + state.factor)


class WritesToItsState(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        state.factor.add_(1)
        return v.clone()


class Rebinds(Good):
    def observe(self, state: State, evidence: Evidence) -> None:
        state.factor = state.factor + need(evidence.gradient, "gradient").square()


class WritesToTheGradient(Good):
    def observe(self, state: State, evidence: Evidence) -> None:
        state.factor.add_(need(evidence.gradient, "gradient").square_())


class Mixes(Good):
    def observe(self, state: State, evidence: Evidence) -> None:
        state.factor.add_(need(evidence.gradient, "gradient").square().mean(0, keepdim=True))


class Raises(Good):
    def refresh(self, state: State) -> Any:
        if not torch.isfinite(state.factor).all():
            raise torch.linalg.LinAlgError("did not converge")
        return super().refresh(state)


class DividesByZero(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v / (state.factor + shift)


class Promotes(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return super().apply(state, v, shift=shift).double()


class IgnoresTheShift(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v / (1 + state.factor)


class IgnoresTheShiftSilently(IgnoresTheShift):
    @property
    def traits(self) -> Traits:
        return Traits(shiftable=False)


class SaysThatItIsExact(Good):
    @property
    def traits(self) -> Traits:
        return Traits(exact=True)

    def observe(self, state: State, evidence: Evidence) -> None:
        assert evidence.operator is not None


class Flattens(Good):
    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return super().apply(state, v, shift=shift).flatten(1)


class KeepsMatrices(Good):
    def init(self, like: Tensor) -> State:
        return State(torch.zeros(len(like), like[0].numel(), like[0].numel(), dtype=like.dtype))

    def observe(self, state: State, evidence: Evidence) -> None:
        rows = need(evidence.gradient, "gradient").flatten(1)
        state.factor.add_(rows[:, :, None] * rows[:, None, :])

    def apply(self, state: State, v: Tensor, *, shift: float = 0.0) -> Tensor:
        return v


class SaysThatMatricesAreElementwise(Good):
    @property
    def elementwise(self) -> Preconditioner[Any]:
        return KeepsMatrices()


BROKEN = [
    (ReadsValues, laws.init_reads_no_values),
    (ForgetsTheBatch, laws.init_reads_no_values),
    (NotLinear, laws.linear),
    (NotSymmetric, laws.symmetric),
    (NotDefinite, laws.definite),
    (WritesToItsArgument, laws.apply_writes_nothing),
    (WritesToItsState, laws.apply_writes_nothing),
    (Rebinds, laws.in_place),
    (WritesToTheGradient, laws.in_place),
    (Mixes, laws.members_do_not_interact),
    (Mixes, laws.survives_bad_evidence),
    (DividesByZero, laws.survives_bad_evidence),
    (Promotes, laws.keeps_dtype),
    (IgnoresTheShift, laws.shift_is_honoured_or_refused),
    (IgnoresTheShiftSilently, laws.shift_is_honoured_or_refused),
    (SaysThatItIsExact, laws.exact_is_the_inverse),
    (Flattens, laws.odd_shapes_are_taken_or_refused),
    (SaysThatMatricesAreElementwise, laws.elementwise_form_is_elementwise),
]


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_a_good_part_keeps_every_law(law: Any) -> None:
    assert law(Good(), (4, 3), 0) is None  # a broken law raises


@pytest.mark.parametrize(("part", "law"), BROKEN, ids=lambda thing: thing.__name__)
def test_a_broken_part_is_caught(part: type[Good], law: Any) -> None:
    with pytest.raises(AssertionError):
        law(part(), (4, 3), 0)


def test_a_refresh_that_raises_is_caught() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        laws.survives_bad_evidence(Raises(), (4, 3), 0)


def test_every_law_is_seen_to_fail() -> None:
    assert {law for _, law in BROKEN} == set(laws.LAWS)


@dataclasses.dataclass(frozen=True)
class Average(Filter[State]):
    """An exponential average; keeps every law."""

    equivariant: ClassVar[bool] = True

    def init(self, like: Tensor) -> State:
        return State(torch.zeros_like(like))

    def push(self, state: State, v: Tensor, evidence: Evidence) -> Tensor:
        return state.factor.lerp_(v, 0.1).clone()


class Overwrites(Average):
    def push(self, state: State, v: Tensor, evidence: Evidence) -> Tensor:
        return v.mul_(2)


class Averages(Average):
    def push(self, state: State, v: Tensor, evidence: Evidence) -> Tensor:
        return v - v.mean(0, keepdim=True)


class Starts(Average):
    def init(self, like: Tensor) -> State:
        return State(like.clone())


class Widens(Average):
    def push(self, state: State, v: Tensor, evidence: Evidence) -> Tensor:
        return v.double()


class Signs(Average):
    equivariant = True

    def push(self, state: State, v: Tensor, evidence: Evidence) -> Tensor:
        return state.factor.lerp_(v, 0.1).sign()


BROKEN_FILTERS = [
    (Starts, filter_laws.init_reads_no_values),
    (Overwrites, filter_laws.push_writes_only_the_state),
    (Averages, filter_laws.members_do_not_interact),
    (Averages, filter_laws.survives_bad_evidence),
    (Widens, filter_laws.keeps_dtype),
    (Signs, filter_laws.turns_along),
]


@pytest.mark.parametrize("law", filter_laws.LAWS, ids=lambda law: law.__name__)
def test_a_good_filter_keeps_every_law(law: Any) -> None:
    assert law(Average(), (4, 3), 0) is None  # a broken law raises


@pytest.mark.parametrize(("part", "law"), BROKEN_FILTERS, ids=lambda thing: thing.__name__)
def test_a_broken_filter_is_caught(part: type[Average], law: Any) -> None:
    with pytest.raises(AssertionError):
        law(part(), (4, 3), 0)


def test_every_filter_law_is_seen_to_fail() -> None:
    assert {law for _, law in BROKEN_FILTERS} == set(filter_laws.LAWS)
