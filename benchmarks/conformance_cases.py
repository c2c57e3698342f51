"""What an optimizer must survive: cases that any `torch.optim.Optimizer` can be put through, with their verdicts.

A case is a function that gets a `Maker` and returns nothing when the optimizer passed; it raises `Broken` with what
happened when it did not. Every problem is a sum of squares ``|p - t|^2 / 2`` with far targets, or a regression of a few
units, so that any method must go down at its default learning rate, and so that a step costs next to nothing.
"""

from __future__ import annotations

import copy
import io
import math
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

        _step(self.optimizer, closure)
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


# --- gradients that are not what they should be ---------------------------------------------------------------------


@case("gradients", "all zero")
def all_zero(make: Maker) -> None:
    """Nobody moves while all gradients are zero; later ones move everybody."""
    run = Squares(make)
    before = run.snapshot()
    for _ in range(4):
        run.step(**{name: torch.zeros(shape) for name, shape in SHAPES.items()})
    run.finite()
    if not all(torch.allclose(run.params[name].detach(), before[name], rtol=0.05) for name in before):
        raise Broken("zero gradients moved it")  # by more than weight decay may shrink it
    run.falls()


@case("gradients", "zero at first")
def first_zero(make: Maker) -> None:
    """The first gradient of everything is zero."""
    run = Squares(make)
    run.step(**{name: torch.zeros(shape) for name, shape in SHAPES.items()})
    run.falls()


@case("gradients", "rank one")
def rank_one(make: Maker) -> None:
    """Gradients that are outer products of the same two vectors, up to scale."""
    run = Squares(make)
    direction = torch.outer(torch.linspace(-1, 1, 6), torch.linspace(1, 2, 4))
    for k in range(4):
        run.step(matrix=direction * (1 + 0.1 * k))
    run.finite()
    run.falls(12)


@case("gradients", "equal eigenvalues")
def equal_eigenvalues(make: Maker) -> None:
    """Gradients that are multiples of an orthogonal matrix, so that all eigenvalues of every factor coincide."""
    run = Squares(make, {"square": (4, 4), "vector": (4,)})
    q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    for k in range(4):
        run.step(square=q * (0.5 + 0.1 * k))
    run.finite()
    run.falls(12)


def _spike(make: Maker, value: float, at: int) -> None:
    run = Squares(make)
    run.steps(at)
    bad = run.gradient("matrix")
    bad[1, 2] = value
    run.step(matrix=bad)
    run.finite()
    run.falls(12)


@case("gradients", "inf spike")
def inf_spike(make: Maker) -> None:
    """One infinite entry in one gradient, once."""
    _spike(make, math.inf, 3)


@case("gradients", "NaN spike")
def nan_spike(make: Maker) -> None:
    """One NaN in one gradient, once."""
    _spike(make, math.nan, 3)


@case("gradients", "NaN at first")
def nan_first(make: Maker) -> None:
    """The very first gradient holds a NaN."""
    _spike(make, math.nan, 0)


# --- gradients that are missing -------------------------------------------------------------------------------------


@case("missing gradients", "sometimes")
def missing_sometimes(make: Maker) -> None:
    """Every third gradient is missing, of different parameters at different steps; nobody moves without one."""
    run = Squares(make)
    before = {name: run.loss([name]) for name in run.params}
    for k in range(9):
        absent = {name: None for i, name in enumerate(run.params) if (k + i) % 3 == 0}
        kept = run.snapshot()
        run.step(**absent)
        if any(not torch.equal(kept[name], run.params[name].detach()) for name in absent):
            raise Broken("moved without a gradient")
    run.finite()
    if any(not run.loss([name]) < before[name] for name in run.params):
        raise Broken("no progress")


@case("missing gradients", "always")
def missing_always(make: Maker) -> None:
    """A parameter that never has a gradient stays, and the others move."""
    run = Squares(make)
    kept, before = run.snapshot()["matrix"], run.loss(["wide", "vector"])
    for _ in range(8):
        run.step(matrix=None)
    run.finite()
    if not torch.equal(kept, run.params["matrix"].detach()):
        raise Broken("moved without a gradient")
    if not run.loss(["wide", "vector"]) < before:
        raise Broken("no progress of the others")


@case("missing gradients", "at first")
def missing_first(make: Maker) -> None:
    """A parameter gets its first gradient after some steps of the others."""
    run = Squares(make)
    for _ in range(4):
        run.step(matrix=None)
    run.falls()


@case("missing gradients", "all")
def missing_all(make: Maker) -> None:
    """A step without any gradient does nothing."""
    run = Squares(make)
    run.step(matrix=None, wide=None, vector=None)
    run.steps(2)
    kept = run.snapshot()
    run.step(matrix=None, wide=None, vector=None)
    same(kept, run.snapshot(), "moved without a gradient")
    run.falls()


# --- dtypes and shapes ----------------------------------------------------------------------------------------------


def _typed(make: Maker, dtype: torch.dtype | dict[str, torch.dtype]) -> None:
    run = Squares(make, dtype=dtype)
    wanted = {name: param.dtype for name, param in run.params.items()}
    run.falls()
    if any(param.dtype != wanted[name] for name, param in run.params.items()):
        raise Broken("changed the dtype of parameters")


@case("dtypes", "bfloat16")
def bfloat16(make: Maker) -> None:
    """Parameters and gradients in bfloat16."""
    _typed(make, torch.bfloat16)


@case("dtypes", "float16")
def float16(make: Maker) -> None:
    """Parameters and gradients in float16."""
    _typed(make, torch.float16)


@case("dtypes", "float64")
def float64(make: Maker) -> None:
    """Parameters and gradients in float64."""
    _typed(make, torch.float64)


@case("dtypes", "mixed")
def mixed(make: Maker) -> None:
    """Parameters of several dtypes in one optimizer."""
    _typed(make, {"matrix": torch.bfloat16, "wide": torch.float32, "vector": torch.float16})


def _shaped(make: Maker, shape: Shape, count: int = 8) -> None:
    Squares(make, {"odd": shape}).falls(count)


@case("shapes", "0-d")
def scalar(make: Maker) -> None:
    """A single number."""
    _shaped(make, ())


@case("shapes", "1-d")
def vector(make: Maker) -> None:
    """A vector."""
    _shaped(make, (7,))


@case("shapes", "5-d")
def five(make: Maker) -> None:
    """A tensor of five axes."""
    _shaped(make, (2, 3, 2, 2, 2))


@case("shapes", "empty")
def empty(make: Maker) -> None:
    """Tensors without entries, beside one with some."""
    Squares(make, {"none": (0, 3), "nothing": (0,), "matrix": (4, 3)}).falls()


@case("shapes", "1xn, nx1")
def thin(make: Maker) -> None:
    """Matrices of one row and of one column."""
    Squares(make, {"row": (1, 7), "column": (7, 1)}).falls()


@case("shapes", "100000x4")
def tall(make: Maker) -> None:
    """A matrix whose longer side must not become a factor."""
    _shaped(make, (100_000, 4), 3)


@case("shapes", "not contiguous")
def transposed(make: Maker) -> None:
    """A parameter that is a transposed view."""
    held: list[Squares] = []

    def made(named: Named) -> torch.optim.Optimizer:
        for _, param in named:
            param.data = param.data.t().contiguous().t()
        return make(named)

    held.append(Squares(made, {"odd": (5, 4)}))
    held[0].falls()


# --- parameters that are more than parameters -----------------------------------------------------------------------


class Net(nn.Module):
    """A regression in which a weight is used twice and another is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.frozen, self.last = nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three numbers for each row of four."""
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.last(torch.tanh(self.frozen(x)))


def _batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return x, 3 + x[:, :3]


def _loss(net: nn.Module, step: int) -> Tensor:
    x, y = _batch(step)
    return (net(x).float() - y).square().mean()


def _train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss = _loss(net, step)
            loss.backward()
            return loss

        _step(optimizer, closure)


def _step(optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
    """Take a step with what the closure evaluates; it is handed on to an optimizer that asks for it."""
    if getattr(optimizer, "wants_closure", False):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def _net_falls(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    with torch.no_grad():
        before = float(_loss(net, 999))
    _train(net, optimizer, steps)
    with torch.no_grad():
        after = float(_loss(net, 999))
    if not math.isfinite(after):
        raise Broken("parameters became NaN or inf")
    if not after < before:
        raise Broken("no progress")


@case("parameters", "tied")
def tied(make: Maker) -> None:
    """A weight that two layers share stays shared."""
    net = Net()
    _net_falls(net, make(list(net.named_parameters())), range(10))
    if net.first.weight is not net.second.weight:
        raise Broken("tore the weight apart")


@case("parameters", "frozen")
def frozen(make: Maker) -> None:
    """A frozen parameter stays, and moves once it is thawed."""
    net = Net()
    kept = net.frozen.weight.detach().clone()
    optimizer = make(list(net.named_parameters()))
    _net_falls(net, optimizer, range(8))
    if not torch.equal(kept, net.frozen.weight.detach()):
        raise Broken("moved a frozen parameter")
    net.frozen.requires_grad_(True)
    _train(net, optimizer, range(8, 11))
    if torch.equal(kept, net.frozen.weight.detach()):
        raise Broken("a thawed parameter does not move")


@case("parameters", "added later")
def added_later(make: Maker) -> None:
    """A group that is added after some steps."""
    run = Squares(make)
    run.steps(3)
    late = nn.Parameter(torch.zeros(5, 4))
    named = isinstance(run.optimizer.param_groups[0].get("param_names"), list)
    run.optimizer.add_param_group({"params": [("late", late)] if named else [late]})
    run.params["late"], run.targets["late"] = late, torch.randn(5, 4).sign() * 2
    run.falls()


# --- saving ---------------------------------------------------------------------------------------------------------


def _resumed(
    make: Maker,
    through: Callable[[object], object],
    order: Sequence[str] | None = None,
    between: Callable[[Squares], None] | None = None,
) -> None:
    """Break unless a run that is saved after some steps goes on bit for bit in another optimizer."""
    run = Squares(make)
    for k in range(6):
        run.step(**({"wide": None} if k == 4 else {}))
    saved = through(run.optimizer.state_dict())
    weights, clock = run.snapshot(), run.clock
    run.steps(8)
    again = Squares(make, order=order)
    with torch.no_grad():
        for name, param in again.params.items():
            param.copy_(weights[name])
    if between is not None:
        between(again)
    again.optimizer.load_state_dict(saved)  # type: ignore[arg-type]
    if between is not None:
        for param in again.params.values():
            param.data = param.data.float()
    again.clock = clock
    again.steps(8)
    again.finite()
    same(run.snapshot(), again.snapshot())


def _through_disk(state: object) -> object:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@case("saving", "state_dict")
def in_memory(make: Maker) -> None:
    """Saved mid-run and continued, bit for bit."""
    _resumed(make, copy.deepcopy)


@case("saving", "weights_only")
def on_disk(make: Maker) -> None:
    """Through `torch.save` and ``torch.load(weights_only=True)``."""
    _resumed(make, _through_disk)


@case("saving", "other order")
def other_order(make: Maker) -> None:
    """Into a model that lists its parameters in another order."""
    _resumed(make, copy.deepcopy, order=list(reversed(SHAPES)))


@case("saving", "moved")
def moved(make: Maker) -> None:
    """Loaded while the model is elsewhere (on the GPU if there is one, else in float64), which then comes back."""

    def away(run: Squares) -> None:
        for param in run.params.values():
            param.data = param.data.cuda() if torch.cuda.is_available() else param.data.double()

    def back_home(state: object) -> object:
        return copy.deepcopy(state)

    if torch.cuda.is_available():
        _moved_to_the_device(make)
    else:
        _resumed(make, back_home, between=away)


def _moved_to_the_device(make: Maker) -> None:
    run = Squares(make)
    run.steps(4)
    saved = copy.deepcopy(run.optimizer.state_dict())
    for param in run.params.values():
        param.data, param.grad = param.data.cuda(), None
    run.targets = {name: target.cuda() for name, target in run.targets.items()}
    run.optimizer.load_state_dict(saved)
    before = run.loss()
    for _ in range(8):

        def closure() -> Tensor:
            for name, param in run.params.items():
                param.grad = param.detach() - run.targets[name]
            return torch.tensor(run.loss())

        _step(run.optimizer, closure)
    run.finite()
    if not run.loss() < before:
        raise Broken("no progress")


@case("saving", "converted mid-run")
def converted(make: Maker) -> None:
    """``model.double()`` between two steps."""
    run = Squares(make)
    run.steps(4)
    for param in run.params.values():
        param.data, param.grad = param.data.double(), None
    run.falls()


@case("saving", "deepcopy")
def copied(make: Maker) -> None:
    """A deep copy of parameters and optimizer goes on alone, and as the original does."""
    run = Squares(make)
    run.steps(5)
    other = copy.deepcopy(run)
    kept = run.snapshot()
    other.steps(7)
    same(kept, run.snapshot(), "the copy moved the original")
    run.steps(7)
    same(run.snapshot(), other.snapshot())


# --- training loops -------------------------------------------------------------------------------------------------


@case("loops", "lr schedule")
def lr_schedule(make: Maker) -> None:
    """A warm-up from zero, then a cosine: nothing moves at rate zero, and everything falls later."""
    run = Squares(make)
    kept = run.snapshot()
    schedule = torch.optim.lr_scheduler.LambdaLR(
        run.optimizer, lambda k: min(k / 4, 1.0) * (1 + math.cos(math.pi * min(k, 20) / 20)) / 2
    )
    run.step()
    same(kept, run.snapshot(), "moved at rate zero")
    before = run.loss()
    for _ in range(12):
        schedule.step()
        run.step()
    run.finite()
    if not run.loss() < before:
        raise Broken("no progress")


@case("loops", "decay schedule")
def decay_schedule(make: Maker) -> None:
    """A weight decay that is raised mid-run shrinks parameters, all gradients being the same."""
    ends = []
    gradients: list[dict[str, Tensor]] = []
    for raised in (0.0, 0.5):
        run = Squares(make)
        for k in range(10):
            for group in run.optimizer.param_groups:
                if "weight_decay" not in group:
                    raise Broken("has no weight_decay in its groups")
                group["weight_decay"] = 0.0 if k < 5 else raised
            if raised == 0.0:
                gradients.append({name: run.gradient(name) for name in run.params})
            run.step(**{name: gradient.clone() for name, gradient in gradients[k].items()})
        run.finite()
        ends.append(sum(float(p.detach().double().square().sum()) for p in run.params.values()))
    if not ends[1] < ends[0]:
        raise Broken("the decay has no effect")


def _in_parts(make: Maker, parts: int) -> dict[str, Tensor]:
    """Return where a run ends whose gradients are sums over so many parts of every batch."""
    torch.manual_seed(0)
    net = Net()
    optimizer = make(list(net.named_parameters()))
    for step in range(4):
        given: list[Tensor | None] = []

        def closure(step: int = step, given: list[Tensor | None] = given) -> Tensor:
            optimizer.zero_grad()
            loss = torch.zeros(())
            for _ in range(parts):
                part = _loss(net, step) / parts
                part.backward()
                loss = loss + part.detach()
            if not given:  # later calls evaluate the batch elsewhere
                given[:] = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
            return loss

        _step(optimizer, closure)
        for param, gradient in zip(net.parameters(), given, strict=True):
            if gradient is not None and not torch.equal(param.grad, gradient):
                raise Broken("writes into gradients")
    return {name: param.detach().clone() for name, param in net.named_parameters()}


@case("loops", "accumulation")
def accumulation(make: Maker) -> None:
    """Gradients summed over two halves of a batch give the same run, and a step leaves gradients as they are."""
    same(_in_parts(make, 1), _in_parts(make, 2))


def _amp(make: Maker, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = make(list(net.named_parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with torch.no_grad():
        before = float(_loss(net, 999))
    for step in range(12):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                loss = _loss(net, step)
            scaler.scale(loss).backward()
            return loss

        closure()
        if step == 4:
            net[0].weight.grad[0, 0] = math.inf
        kept, scale = [p.detach().clone() for p in net.parameters()], scaler.get_scale()
        scaler.step(optimizer, *([closure] if getattr(optimizer, "replays", False) else []))
        scaler.update()
        if step == 4:
            if not all(torch.equal(k, p.detach()) for k, p in zip(kept, net.parameters(), strict=True)):
                raise Broken("stepped in spite of an overflow")
            if scaler.get_scale() != scale / 2:
                raise Broken("the scale was not halved")
    with torch.no_grad():
        after = float(_loss(net, 999))
    if not math.isfinite(after):
        raise Broken("parameters became NaN or inf")
    if not after < before:
        raise Broken("no progress")


@case("loops", "AMP bfloat16")
def amp_bfloat16(make: Maker) -> None:
    """Autocast to bfloat16 under a `GradScaler`, with one overflow."""
    _amp(make, torch.bfloat16)


@case("loops", "AMP float16")
def amp_float16(make: Maker) -> None:
    """Autocast to float16 under a `GradScaler`, with one overflow."""
    _amp(make, torch.float16)
