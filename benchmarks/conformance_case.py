"""What an optimizer must survive: cases that any `torch.optim.Optimizer` can be put through, with their verdicts.

A case is a function that gets a `Maker` and returns nothing when the optimizer passed; it raises `Broken` with what
happened when it did not. Every problem is a sum of squares ``|p - t|^2 / 2`` with far targets, or a regression of a few
units, so that any method must go down at its default learning rate, and so that a step costs next to nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Named = list[tuple[str, nn.Parameter]]
Maker = Callable[[Named], torch.optim.Optimizer]
"""Makes the optimizer of named parameters; it may have attributes of its own."""
Case = Callable[[Maker], None]
Shape = tuple[int, ...]

SHAPES: dict[str, Shape] = {"matrix": (6, 4), "wide": (4, 6), "vector": (4,)}
CASES: dict[str, dict[str, Case]] = {}
"""All cases by group and name."""


class Broken(Exception):
    """What happened, in a few words."""


def case(group: str, name: str) -> Callable[[Case], Case]:
    """Register a case."""

    def register(function: Case) -> Case:
        CASES.setdefault(group, {})[name] = function
        return function

    return register


def verdict(function: Case, make: Maker) -> str:
    """Run a case and return ``"pass"`` or what happened."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(make)
        except Broken as broken:
            return str(broken)
        except Exception as error:  # whatever an optimizer raises is what happened
            text = " ".join(str(error).split())
            return f"raised {type(error).__name__}: {text[:90]}".replace("|", "/")
    return "pass"


def take_step(optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
    """Take a step with what the closure evaluates; it is handed on to an optimizer that asks for it."""
    if getattr(optimizer, "wants_closure", False):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


class Squares:
    """Parameters with targets, and the optimizer that moves them there.

    Args:
        make: Makes the optimizer.
        shapes: Shapes by name.
        dtype: Of the parameters, or one by name.
        order: Names in the order in which the optimizer gets them.
    """

    def __init__(
        self,
        make: Maker,
        shapes: dict[str, Shape] | None = None,
        dtype: torch.dtype | dict[str, torch.dtype] = torch.float32,
        order: Sequence[str] | None = None,
    ) -> None:
        shapes = SHAPES if shapes is None else shapes
        generator = torch.Generator().manual_seed(0)
        self.params: dict[str, nn.Parameter] = {}
        self.targets: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            own = dtype[name] if isinstance(dtype, dict) else dtype
            start = 0.01 * torch.randn(shape, generator=generator)
            target = torch.randn(shape, generator=generator)
            self.targets[name] = target + target.sign()
            self.params[name] = nn.Parameter(start.to(own))
        self.optimizer = make([(name, self.params[name]) for name in (order or shapes)])
        self.clock = 0

    def gradient(self, name: str) -> Tensor:
        """Return the gradient of the squares, with a little noise that depends on the step alone."""
        generator = torch.Generator().manual_seed(1000 + self.clock)
        param = self.params[name]
        noise = 0.05 * torch.randn(param.shape, generator=generator)
        exact = param.detach().to(torch.promote_types(param.dtype, torch.float32))
        return (0.3 * (exact - self.targets[name] + noise)).to(param.dtype)

    def loss(self, names: Iterable[str] | None = None) -> float:
        """Return the squares of some parameters."""
        chosen = self.params if names is None else names
        return sum(float((self.params[n].detach().double() - self.targets[n]).square().sum()) / 2 for n in chosen)

    def step(self, **given: Tensor | None) -> None:
        """Take a step with the gradients of the squares, but for those that are given; ``None`` means none."""

        def closure() -> Tensor:
            for name, param in self.params.items():
                param.grad = given[name] if name in given else self.gradient(name)
            return torch.tensor(self.loss())

        take_step(self.optimizer, closure)
        self.clock += 1

    def steps(self, count: int) -> None:
        """Take steps as they should be."""
        for _ in range(count):
            self.step()

    def finite(self) -> None:
        """Break unless all parameters are finite."""
        bad = [name for name, p in self.params.items() if not bool(p.detach().isfinite().all())]
        if bad:
            raise Broken(
                "parameters became NaN or inf" + (f": {', '.join(bad)}" if len(self.params) > len(bad) else "")
            )

    def falls(self, count: int = 8, names: Iterable[str] | None = None) -> None:
        """Take steps, and break unless parameters stay finite and each of them comes nearer to its target."""
        names = [n for n in (self.params if names is None else names) if self.params[n].numel()]
        before = {name: self.loss([name]) for name in names}
        self.steps(count)
        self.finite()
        for name in names:
            after = self.loss([name])
            if not after < before[name]:
                raise Broken(f"no progress on {name}" if len(self.params) > 1 else "no progress")

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of the parameters."""
        return {name: param.detach().clone() for name, param in self.params.items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor], what: str = "differs") -> None:
    """Break unless all tensors are the same, bit for bit."""
    if all(torch.equal(one[name], two[name]) for name in one):
        return
    largest = max(float((one[n].double() - two[n].double()).abs().max()) for n in one if one[n].numel())
    raise Broken(f"{what} by {largest:.0e}")
