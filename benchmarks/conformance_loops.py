"""Cases of conformance: schedules, gradients in parts, mixed precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from conformance_case import Broken, Maker, Squares, case, same, take_step
from conformance_net import Net, loss_of


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
                part = loss_of(net, step) / parts
                part.backward()
                loss = loss + part.detach()
            if not given:  # later calls evaluate the batch elsewhere
                given[:] = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
            return loss

        take_step(optimizer, closure)
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
        before = float(loss_of(net, 999))
    for step in range(12):

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                loss = loss_of(net, step)
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
        after = float(loss_of(net, 999))
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
