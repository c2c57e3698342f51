"""Parameter groups for a network: which rule each tensor gets, and why."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from precond.core import BadInputError, Method, Route
from precond.optim.roles import Decision, decide
from precond.optim.rules import ENTRIES, MATRICES

logger = logging.getLogger(__name__)


class ParamGroups(list[dict[str, Any]]):
    """Parameter groups that say how they came about; otherwise a list, as any optimizer takes it.

    Args:
        groups: The groups.
        decisions: What every parameter of the network is.
        rules: What matrices follow, and what all other tensors do, in words.

    Attributes:
        decisions: What every parameter of the network is, those that are left out too.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], decisions: Sequence[Decision], rules: tuple[str, str] = ("", "")
    ) -> None:
        super().__init__(groups)
        self.decisions = tuple(decisions)
        self._rules = rules

    def explain(self) -> str:
        """Return a table of all tensors, those of repeated layers in one line, with rule and reason."""
        lines: dict[tuple[str, ...], list[str]] = {}
        for decision in self.decisions:
            name = re.sub(r"(?<![^.])\d+(?![^.])", "*", decision.name)
            shape = "x".join(map(str, decision.shape)) or "()"
            row = (name, shape, decision.role, decision.treatment, decision.why)
            lines.setdefault(row, []).append(decision.name)
        rows = [
            (f"{row[0]} ({len(names)} of them)" if len(names) > 1 else names[0], *row[1:])
            for row, names in lines.items()
        ]
        table = [("parameter", "shape", "role", "treated as", "why"), *rows]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        text = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in table]
        text.insert(1, "  ".join("-" * n for n in [*widths, 3]))
        matrices, rest = self._rules
        return "\n".join([*text, "", f"matrices: {matrices}", f"the rest: {rest}"])

    def __str__(self) -> str:
        """Return the explanation."""
        return self.explain()


def groups_for(
    model: nn.Module,
    method: Method | Route | None = None,
    *,
    fallback: Method | None = None,
    lr: float | None = None,
    fallback_lr: float | None = None,
    no_decay: Collection[str] = ("norm", "bias", "vector"),
    roles: Mapping[str, str] | None = None,
    fused: Mapping[str, int] | None = None,
    verbose: bool = True,
) -> ParamGroups:
    """Decide which rule each tensor of a network gets, print why, and return the parameter groups.

    The groups go into any of our optimizers: ``Muon(groups_for(model), lr=0.02)``, or
    ``Optimizer(groups_for(model, soap()), lr=3e-3)``. In this order:

    1. The weight of an embedding, shared with an output layer or not, is an ``embedding``.
    2. What belongs to a normalization is ``norm``; what is called a bias is ``bias``; what has but one axis longer
       than one is a ``vector``.
    3. A ``convolution`` is one matrix ``(out, -1)``, or as many as it has groups; where filters see or make a single
       channel it is ``depthwise``.
    4. A linear layer is the output layer, ``lm_head``, if its shape is that of an embedding, if it is called so, or if
       it is the last one, but not all there is, and no other module takes outputs of this width.
    5. Query, key and value in one weight (``in_proj_weight``, ``*qkv*``, ``*c_attn*``, where that makes squares), gate
       and up (``*gate_up_proj*``) and the gates of recurrent layers are as many matrices, ``fused``.
    6. A tensor of three axes in any other module is a stack of experts, ``expert``, one matrix each.
    7. All other linear layers and matrices are ``hidden``.

    Matrices (``hidden``, ``convolution``, ``fused``, ``expert``) get the method, each as if it were a parameter of its
    own. All others get ``fallback``, or else what a route has for such tensors (Muon's has AdamW), or else the
    method's own form with one number per entry.

    Args:
        model: The network. No values are read, so it may be on the meta device.
        method: The method for matrices; that of the optimizer unless given.
        fallback: The method for all other tensors.
        lr: Learning rate of the matrices; that of the optimizer unless given.
        fallback_lr: Learning rate of the rest; that of the optimizer unless given.
        no_decay: Roles without weight decay.
        roles: Shell patterns of names and the roles to give them, ahead of these rules: ``{"decoder.*": "hidden"}``.
        fused: Shell patterns of names of fused projections, and how many equal matrices each holds.
        verbose: Print the table; it is logged in any case.

    Returns:
        The groups, by role; frozen parameters are left out. ``print(groups)`` shows the table again.

    Raises:
        BadInputError: A parameter is a flat shard, has no shape yet, or nothing requires a gradient; or a pattern meets
            no name.
    """
    if not isinstance(model, nn.Module):
        raise BadInputError(f"groups_for reads a network, a torch.nn.Module, not {type(model).__name__}")
    for what, given in (("method", method), ("fallback", fallback)):
        if given is not None and not isinstance(given, Method | Route):
            raise BadInputError(f"{what} must be a Method or a Route, not {type(given).__name__}: see precond.recipes")
    decisions = decide(model, roles, fused)
    by_kind: dict[tuple[Any, ...], list[tuple[str, nn.Parameter]]] = {}
    for decision, (name, param) in zip(decisions, model.named_parameters(), strict=True):
        if decision.role != "frozen":
            by_kind.setdefault((decision.role, decision.stack), []).append((name, param))
    if not by_kind:
        raise BadInputError("no parameter of the model requires a gradient: there is nothing to train")
    order = [*MATRICES, *ENTRIES]
    groups = []
    for (role, stack), members in sorted(by_kind.items(), key=lambda item: order.index(item[0][0])):
        group: dict[str, Any] = {"params": members, "role": role}
        if stack is not None:
            group["stack"] = (stack.axis, stack.count)
        chosen, rate = method, lr
        if role in ENTRIES:  # a route hands out its methods as they are
            chosen, rate = method if fallback is None else Route((), fallback), fallback_lr
        group |= {} if chosen is None else {"method": chosen}
        group |= {} if rate is None else {"lr": rate}
        group |= {"weight_decay": 0.0} if role in no_decay else {}
        groups.append(group)
    result = ParamGroups(groups, decisions, (_words(method), _rest(method, fallback, no_decay)))
    logger.info("%s", result)
    if verbose:
        print(result)
    return result


def _words(method: Method | Route | None) -> str:
    if method is None:
        return "the method of the optimizer"
    if isinstance(method, Route):
        return ", ".join(dict.fromkeys(_words(own) for _, own in method.rules))
    return type(method.preconditioner).__name__


def _rest(method: Method | Route | None, fallback: Method | None, no_decay: Collection[str]) -> str:
    words = "AdamW where the optimizer has it for such tensors, else the elementwise form of its method"
    if fallback is not None:
        words = _words(fallback)
    elif isinstance(method, Route):
        words = _words(method.default)
    elif method is not None:
        form = method.preconditioner.elementwise
        words = f"{type(form).__name__}, the elementwise form" if form is not None else _words(method)
    return f"{words}; no weight decay for {', '.join(no_decay)}" if no_decay else words
