"""Cases of conformance: parameters that are tied, frozen or added later."""

from __future__ import annotations

import torch
from torch import nn

from conformance_case import Broken, Maker, Squares, case
from conformance_net import Net, net_falls, train


@case("parameters", "tied")
def tied(make: Maker) -> None:
    """A weight that two layers share stays shared."""
    net = Net()
    net_falls(net, make(list(net.named_parameters())), range(10))
    if net.first.weight is not net.second.weight:
        raise Broken("tore the weight apart")


@case("parameters", "frozen")
def frozen(make: Maker) -> None:
    """A frozen parameter stays, and moves once it is thawed."""
    net = Net()
    kept = net.frozen.weight.detach().clone()
    optimizer = make(list(net.named_parameters()))
    net_falls(net, optimizer, range(8))
    if not torch.equal(kept, net.frozen.weight.detach()):
        raise Broken("moved a frozen parameter")
    net.frozen.requires_grad_(True)
    train(net, optimizer, range(8, 11))
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
