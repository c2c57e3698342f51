"""What each tensor of a network is: a hidden matrix, a kernel, an embedding, a norm, query, key and value in one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from precond.core import BadInputError
from precond.math.tensors.stacks import Stack
from precond.optim.checks import is_flat_shard
from precond.optim.rules import ENTRIES, MATRICES

FUSED: Mapping[str, int] = {"*qkv*": 3, "*c_attn*": 3, "*in_proj_weight": 3}
"""Names of projections that hold query, key and value, and how many matrices that makes."""
_GATED: Mapping[str, int] = {"*gate_up_proj*": 2, "*gate_and_up*": 2}
"""Names of layers that hold the two halves of a gated unit, one above the other."""
_INTERLEAVED = "*query_key_value*"
"""Names of projections whose rows alternate between query, key and value from head to head."""

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3}
_EMBEDDING_NAME = re.compile(r"embed|(^|[._])(pos|wte|wpe|tok|token|cls_token|mask_token)([._]|$)|(tokens|prompts?)$")
_POSITION_NAME = re.compile(r"(^|[._])(wpe|pos)|position")
_NUMBERS_NAME = re.compile(r"(^|[._])(a_log|log_a|d_skip|dt_bias)([._]|$)")
"""Tables of separate numbers, such as the decays of state spaces."""
_HEAD_NAME = re.compile(r"(^|[._])(lm_head|head|classifier|unembed\w*|output|fc_out)([._]|$)")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What one tensor is.

    Attributes:
        name: Its name.
        shape: Its shape.
        role: One of `precond.optim.rules.MATRICES` or `ENTRIES`, or ``"frozen"``.
        why: The reason, in a few words.
        stack: How it holds matrices; ``None`` where the role has none.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    why: str
    stack: Stack | None = None

    @property
    def treatment(self) -> str:
        """What that means for the tensor, in a few words."""
        if self.role == "frozen":
            return "left out"
        if self.stack is None:
            return "entry by entry"
        matrix = "x".join(map(str, self.stack.matrix(self.shape)))
        return f"{self.stack.count} matrices {matrix}" if self.stack.count > 1 else f"matrix {matrix}"


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a tensor lives: the first of the modules that own it, and how they call it."""

    path: str
    module: nn.Module
    attribute: str


def decide(
    model: nn.Module, roles: Mapping[str, str] | None = None, fused: Mapping[str, int] | None = None
) -> list[Decision]:
    """Say of every parameter of a network what it is, by the type of its module first, and by its name.

    Args:
        model: The network; no values are read.
        roles: Shell patterns of names and the roles to give them, ahead of all other rules.
        fused: Shell patterns of names of fused projections and how many matrices each holds, besides `FUSED`.

    Returns:
        One decision per parameter, in the order of ``model.named_parameters()``.

    Raises:
        BadInputError: A parameter is a shard that was flattened, or not there yet, a role is not known, or a pattern
            meets no name.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in [*(roles or {}), *(fused or {})]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInputError(f"no parameter of the model is called {pattern!r}: see model.named_parameters()")
    places = _places(model)
    vocabularies = _vocabularies(model)
    heads = _heads(model, vocabularies)
    kinds = {cls.__name__ for module in model.modules() for cls in type(module).__mro__}
    wrapped = "FullyShardedDataParallel" in kinds
    decisions = []
    for name, param in model.named_parameters():
        _refuse_what_has_no_shape(name, param, places[id(param)], wrapped)
        told = next((role for pattern, role in (roles or {}).items() if fnmatchcase(name, pattern)), None)
        if told is not None and told not in MATRICES + ENTRIES:
            raise BadInputError(f"unknown role {told!r} for {pattern_of(roles, told)}: {', '.join(MATRICES + ENTRIES)}")
        role, why, stack = _decide(name, param, places[id(param)], heads, fused or {})
        if told is not None:
            role, why, stack = told, "you said so", (stack or Stack()) if told in MATRICES else None
        if role == "expert" and stack is not None and stack.count == 1:
            stack = Stack(0, param.shape[0])
        if not param.requires_grad:
            role, why, stack = "frozen", "requires no gradient", None
        decisions.append(Decision(name, tuple(param.shape), role, why, stack))
    return decisions


def pattern_of(roles: Mapping[str, str] | None, role: str) -> str:
    """Return the first pattern that is given this role."""
    return next((repr(pattern) for pattern, own in (roles or {}).items() if own == role), "")


def _decide(
    name: str, param: Tensor, places: list[_Place], heads: Mapping[int, str], fused: Mapping[str, int]
) -> tuple[str, str, Stack | None]:
    """Return role, reason and stack; the rules stand in the order in which they are tried."""
    module, attribute = places[0].module, places[0].attribute
    kind, ndim = "Linear" if isinstance(module, nn.Linear) else type(module).__name__, param.ndim
    embeddings = [place for place in places if _is_embedding(place.module)]
    if embeddings and ndim == 2:
        if len(places) > len(embeddings):
            return "embedding", "shared by an embedding and an output layer", None
        return "embedding", kind, None
    if isinstance(module, _NORMS) or "norm" in kind.lower():
        return "norm", kind, None
    if "bias" in attribute.lower():
        return "bias", f"{attribute} of {kind}", None
    if ndim <= 1 or sum(n != 1 for n in param.shape) <= 1:
        return "vector", f"{attribute} of {kind} has one axis" if ndim else f"{attribute} is a number", None
    if _NUMBERS_NAME.search(name.lower()):
        return "vector", f"{attribute} holds separate numbers, by its name", None
    if isinstance(module, _ConvNd):
        return _convolution(module)
    if id(param) in heads and not any(fnmatchcase(name, pattern) for pattern in fused):
        return "lm_head", heads[id(param)], None
    if ndim == 2 or isinstance(module, nn.Linear):
        parts, why = _fused(name, param, module, fused)
        if parts is not None:
            return "fused", why, parts
        if not isinstance(module, nn.Linear) and _EMBEDDING_NAME.search(name.lower()):
            return "embedding", "by its name", None
        return "hidden", why or f"{attribute} of {kind}", Stack()
    if _EMBEDDING_NAME.search(name.lower()):
        return "embedding", "by its name", None
    if ndim == 3 and param.shape[0] > 1 and not isinstance(module, nn.Bilinear):
        return "expert", f"a stack of {param.shape[0]} matrices", Stack(0, param.shape[0])
    return "hidden", f"{attribute} of {kind}, flattened", Stack()


def _convolution(module: _ConvNd) -> tuple[str, str, Stack | None]:
    kind, groups, out = type(module).__name__, module.groups, module.out_channels
    if groups == 1:
        return "convolution", f"{kind}, flattened to ({'in' if module.transposed else 'out'}, -1)", Stack()
    if out == groups or module.in_channels == groups:
        return "depthwise", f"{kind}: every filter sees one channel, or makes one", None
    return "convolution", f"{kind} of {groups} groups", Stack(0, groups)


def _fused(name: str, param: Tensor, module: nn.Module, given: Mapping[str, int]) -> tuple[Stack | None, str]:
    """Return how a fused projection is cut, or why it is not."""
    axis = 1 if type(module).__name__ == "Conv1D" else 0  # weights of transformers.Conv1D are [in, out]
    for pattern, count in given.items():
        if fnmatchcase(name, pattern):
            if param.shape[axis] % count:
                raise BadInputError(
                    f"{name} of shape {tuple(param.shape)} cannot be cut into {count} along axis {axis}"
                )
            return Stack(axis, count), f"{count} projections in one: you said so"
    gates = next((count for cell, count in _GATES.items() if isinstance(module, cell)), 0)
    if gates and param.shape[0] % gates == 0:
        return Stack(0, gates), f"{gates} gates of {type(module).__name__} in one"
    gated = next((count for pattern, count in _GATED.items() if fnmatchcase(name.lower(), pattern)), 0)
    if gated and param.shape[axis] % gated == 0:
        return Stack(axis, gated), "gate and up in one"
    if fnmatchcase(name.lower(), _INTERLEAVED):
        return None, "query, key and value alternate by heads: kept whole (say fused={pattern: parts} to cut it)"
    count = next((count for pattern, count in FUSED.items() if fnmatchcase(name.lower(), pattern)), 0)
    if not count:
        return None, ""
    if param.shape[axis] == count * param.shape[1 - axis]:
        return Stack(axis, count), "query, key and value in one"
    return None, "fused, but not three squares: kept whole (say fused={pattern: parts} to cut it)"


def _vocabularies(model: nn.Module) -> set[tuple[int, int]]:
    """Return length and width of every embedding that is not one of positions."""
    found: set[tuple[int, int]] = set()
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if _is_embedding(module) and isinstance(weight, Tensor) and not _POSITION_NAME.search(path.lower()):
            found.add((weight.shape[0], weight.shape[1]))
    return found


def _heads(model: nn.Module, vocabularies: set[tuple[int, int]]) -> dict[int, str]:
    """Return the weights of output layers by identity, each with the reason."""
    linears = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    heads: dict[int, str] = {}
    matching = [(path, m) for path, m in linears if (m.out_features, m.in_features) in vocabularies]
    for path, module in matching:
        if len(matching) == 1 or _HEAD_NAME.search(path.lower()):
            heads[id(module.weight)] = "its outputs are the vocabulary"
    for path, module in linears:
        if _HEAD_NAME.search(path.lower().rpartition(".")[2]):
            heads.setdefault(id(module.weight), "an output layer by its name")
    if linears:
        _, last = linears[-1]
        taken = {n for module in model.modules() for n in _inputs(module)}
        feeds = any(isinstance(m, _ConvNd | nn.RNNBase | nn.RNNCellBase) or _is_embedding(m) for m in model.modules())
        matrices = [param for param in model.parameters() if param.ndim > 1]
        ends = len(linears) > 1 or (feeds and matrices[-1] is last.weight)
        if ends and last.out_features not in taken:
            heads.setdefault(id(last.weight), "the last layer, whose outputs no other takes")
    return heads


def _inputs(module: nn.Module) -> Iterator[int]:
    """Yield the widths that a module takes in, or hands on as it got them."""
    for attribute in (
        "in_features",
        "in_channels",
        "embedding_dim",
        "embed_dim",
        "num_features",
        "num_channels",
        "input_size",
    ):
        width = getattr(module, attribute, None)
        if isinstance(width, int):
            yield width
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        yield shape[-1]


def _is_embedding(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return True
    return "Embedding" in type(module).__name__ and isinstance(module._parameters.get("weight"), Tensor)


def _places(model: nn.Module) -> dict[int, list[_Place]]:
    """Return where each parameter lives, by identity; a parametrized one lives in the layer, not in its list."""
    places: dict[int, list[_Place]] = {}
    for path, module in model.named_modules():
        for attribute, param in module._parameters.items():
            if param is None:
                continue
            place = _Place(path, module, attribute)
            if isinstance(module, ParametrizationList):
                owner, _, original = path.rpartition(".parametrizations.")
                if not path.count(".parametrizations."):
                    owner, original = "", path.removeprefix("parametrizations.")
                place = _Place(owner, model.get_submodule(owner), original)
            places.setdefault(id(param), []).append(place)
    return places


def _refuse_what_has_no_shape(name: str, param: Tensor, places: list[_Place], wrapped: bool) -> None:
    """Refuse parameters that stand for many (as all do in a model that was ``wrapped``), and those not there yet."""
    if is_lazy(param):
        raise BadInputError(f"{name} has no shape yet: run the model on one batch before you call groups_for")
    flat = (
        is_flat_shard(param)
        or "_flat_param" in name
        or wrapped
        or (param.ndim == 1 and any(_has_matrix(place) for place in places))
    )
    if flat:
        raise BadInputError(
            f"{name}, of shape {tuple(param.shape)}, is a flat shard: it stands for tensors whose shapes it does not "
            "tell, so that no rule can be chosen for them. Shard the model with torch.distributed.fsdp.fully_shard, "
            "whose parameters keep their shapes, in place of FullyShardedDataParallel or ZeRO stage 3"
        )


def _has_matrix(place: _Place) -> bool:
    """Whether what lives here must have two axes at least."""
    kinds = (nn.Linear, nn.Embedding, nn.EmbeddingBag, nn.Bilinear, _ConvNd)
    return place.attribute == "weight" and isinstance(place.module, kinds) and not _swapped(place.module)


def _swapped(module: nn.Module) -> bool:
    """Whether a parametrization keeps the weight in another shape than it is used in."""
    return hasattr(module, "parametrizations") and torch.nn.utils.parametrize.is_parametrized(module)
