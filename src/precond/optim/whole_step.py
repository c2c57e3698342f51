"""What a whole step in one kernel, or in few passes over memory, is made of."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from precond.math.norms import largest_usable


@dataclasses.dataclass(frozen=True)
class Moved:
    """What one step moves: every list has one entry per parameter, in the parameters' own shape.

    Attributes:
        params: The parameters.
        grads: Their gradients.
        scatter: From a stacked tensor to its members.
        preconditioner: State of the preconditioner, stacked.
        momentum: State of the momentum, stacked.
        previous: The gradient of the step before, stacked, if a part needs it.
    """

    params: list[Tensor]
    grads: list[Tensor]
    scatter: Callable[[Tensor], list[Tensor]]
    preconditioner: Any
    momentum: Any
    previous: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where all of it lives."""
        return self.params[0].device


Step = Callable[[Moved, Any, float], Any]
"""Takes one step with a learning rate (a number or a tensor) and a weight decay."""


class Ages:
    """How many gradients the members of a step have absorbed, by each of several counters.

    Reading numbers back makes the processor wait for another device, so that they are read when somebody asks, and
    counted along from then on.

    Args:
        counters: Each has one number for each member.
    """

    def __init__(self, counters: Sequence[Tensor]) -> None:
        self.counters = counters
        self._floats: dict[int, tuple[Tensor, list[Tensor]]] = {}

    @functools.cached_property
    def numbers(self) -> list[list[int]]:
        """What each counter holds."""
        return [counter.tolist() for counter in self.counters]

    def follow(self) -> None:
        """Count along: one was added to all counters."""
        if "numbers" in self.__dict__:
            self.numbers = [[number + 1 for number in counter] for counter in self.numbers]
        for floats, _ in self._floats.values():
            floats.add_(1.0)

    def forget(self) -> None:
        """Read the numbers again when they are asked for: somebody else has counted."""
        self.__dict__.pop("numbers", None)
        self._floats.clear()

    def floats(self, which: int) -> list[Tensor]:
        """Return what one counter holds, as PyTorch's fused kernels take it."""
        if which not in self._floats:
            floats = self.counters[which].to(torch.float32)
            self._floats[which] = floats, list(floats.unbind(0))
        return self._floats[which][1]


Lists = Sequence[list[Tensor]]
Kernel = Callable[[list[Tensor], list[Tensor], Lists, Ages, Any, float], None]
"""Moves parameters, given their gradients, lists of their state tensors, their ages, learning rate and weight decay."""


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Many small parameters, with what belongs to them as vectors.

    Attributes:
        params: The parameters.
        gradient: Their gradients, as one vector.
        states: The tensors of their state, as one vector each.
        lists: The parts of these vectors.
        ages: What the members have absorbed.
    """

    params: list[Tensor]
    gradient: Tensor
    states: Sequence[Tensor]
    lists: Lists
    ages: Ages


Flat = Callable[[Vectors, Any, float], bool]
"""Moves parameters as vectors, given learning rate and weight decay; returns whether it could."""
Chosen = Callable[[Moved], tuple[Tensor, ...]]
"""Chooses stacked tensors from the states of the parts."""


@dataclasses.dataclass(frozen=True)
class Joint:
    """A kernel that takes the step of any number of parameters of any shapes.

    Attributes:
        kernel: Takes it.
        tensors: The state tensors that it writes to.
        counters: What a step adds one to, before the kernel, which is told them.
        flat: Takes the step of many small parameters as one vector, where that saves calls.
    """

    kernel: Kernel
    tensors: Chosen
    counters: Chosen
    flat: Flat | None = None

    def run(self, moved: Moved, lr: Any, decay: float) -> None:
        """Take the step of one slab."""
        counters = self.counters(moved)
        if counters:
            torch._foreach_add_(list(counters), 1)
        lists = [moved.scatter(stacked) for stacked in self.tensors(moved)]
        self.kernel(moved.params, moved.grads, lists, Ages(counters), lr, decay)

    def scaled(self, by: float) -> Joint:
        """Return the kernel with a constant multiple of the learning rate, which weight decay sees too."""
        kernel, flat = self.kernel, self.flat

        def faster(params: list[Tensor], grads: list[Tensor], lists: Lists, ages: Ages, lr: Any, decay: float) -> None:
            kernel(params, grads, lists, ages, lr * by, decay)

        def flat_faster(whole: Vectors, lr: Any, decay: float) -> bool:
            return flat is not None and flat(whole, lr * by, decay)

        return dataclasses.replace(self, kernel=faster, flat=None if flat is None else flat_faster)


@dataclasses.dataclass(frozen=True)
class Fused:
    """A whole step.

    Attributes:
        run: Takes it for one slab.
        joint: Takes it for several slabs together.
        checks: Whether ``run`` leaves parameters alone whose gradients are not finite, and returns their positions;
            else gradients must be finite.
    """

    run: Step
    joint: Joint
    checks: bool = False

    @classmethod
    def of(cls, joint: Joint) -> Fused:
        """Return the step of a kernel that takes one slab as it takes several."""
        return cls(joint.run, joint)

    def scaled(self, by: float) -> Fused:
        """Return the step with a constant multiple of the learning rate, which weight decay sees too."""

        def run(moved: Moved, lr: Any, decay: float) -> Any:
            return self.run(moved, lr * by, decay)

        return dataclasses.replace(self, run=run, joint=self.joint.scaled(by))

    def within(self, part: Callable[[Any], Any]) -> Fused:
        """Return the step of a preconditioner a part of whose state is what this step works on."""

        def inner(moved: Moved) -> Moved:
            return dataclasses.replace(moved, preconditioner=part(moved.preconditioner))

        def run(moved: Moved, lr: Any, decay: float) -> Any:
            return self.run(inner(moved), lr, decay)

        tensors, counters = self.joint.tensors, self.joint.counters
        joint = dataclasses.replace(
            self.joint, tensors=lambda moved: tensors(inner(moved)), counters=lambda moved: counters(inner(moved))
        )
        return dataclasses.replace(self, run=run, joint=joint)


SMALL = 2**14
"""Entries of a tensor up to which several take each pass together, to save calls."""


_COPIED = 2**13
"""Entries up to which a copy beside others takes less time than a look at a tensor alone."""


def fits(tensors: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Whether a kernel may walk through these tensors side by side with contiguous state of this dtype."""
    return all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)


def surely_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every entry of some tensors is finite and none is huge, in one pass.

    Of small tensors the squares are added up; of larger ones the entries, which takes two thirds of the time.

    Args:
        tensors: At least one, of one dtype and device; contiguous, or one alone.

    Returns:
        Whether that is certain, but for huge entries of large tensors that cancel.
    """
    limit = largest_usable(tensors[0].dtype)
    small = [tensor for tensor in tensors if tensor.numel() <= _COPIED]
    if len(small) < len(tensors) and not all(
        abs(tensor.sum().item()) < limit for tensor in tensors if tensor.numel() > _COPIED
    ):
        return False
    if not small:
        return True
    flat = small[0].reshape(-1) if len(small) == 1 else _flatten_dense_tensors(small)
    return math.isfinite(torch.dot(flat, flat).item())
