"""A pretended device: its tensors say that they lie elsewhere, and their numbers lie on the processor.

An operation that mixes them with tensors of the processor raises what a GPU would raise, and reading one back is
counted. Registered as torch's device for other vendors, once and for good in a process: import this in one of its own.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("elsewhere")
DEVICE = torch.device("elsewhere", 0)
READ: list[str] = []
"""Where the processor waited for a number from the device: lines of the library, the innermost first."""
BROUGHT: list[int] = []
"""How many entries each tensor had that was brought to the processor."""

_COPIES = ("aten::copy_", "aten::_to_copy", "aten::_foreach_copy_")
_INDEXED = ("aten::index", "aten::index_put_")
"""Take indices from the processor, as on a GPU; they are copied there without waiting."""
_WAITS = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::is_nonzero")
_GENERATOR = torch.Generator


class Elsewhere(Tensor):
    """A tensor of the pretended device.

    Attributes:
        here: Its numbers.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]  # torch declares it nowhere
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.here = here
        return made

    def __init__(self, here: Tensor) -> None:
        pass

    def __repr__(self) -> str:
        return f"Elsewhere({self.here})"

    def tolist(self) -> Any:
        _waited("tolist")
        return self.here.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("a tensor of another device has no NumPy array: copy it to the processor first")
        _waited("numpy")
        BROUGHT.append(self.here.numel())
        return self.here.numpy(force=True)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def new_tensor(self, data: Any, **kwargs: Any) -> Tensor:
        return Elsewhere(self.here.new_tensor(data, **kwargs))

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def untyped_storage(self) -> Any:
        return self.here.untyped_storage()

    def __getitem__(self, key: Any) -> Tensor:
        keys = tuple(_index(part) for part in key) if isinstance(key, tuple) else _index(key)
        return Tensor.__getitem__(self, keys)

    def __setitem__(self, key: Any, value: Any) -> None:
        keys = tuple(_index(part) for part in key) if isinstance(key, tuple) else _index(key)
        Tensor.__setitem__(self, keys, value)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # torch says to switch it off so

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _index(key: Any) -> Any:
    if not isinstance(key, list):
        return key
    return Elsewhere(torch.tensor(key, dtype=torch.bool if key and isinstance(key[0], bool) else torch.long))


def _waited(name: str) -> None:
    lines: list[str] = []
    frame = inspect.currentframe()
    while frame is not None and len(lines) < 4:
        if "precond/" in frame.f_code.co_filename:
            lines.append(f"{frame.f_code.co_filename.rpartition('precond/')[2]}:{frame.f_lineno}")
        frame = frame.f_back
    READ.append(" < ".join([name, *lines]))


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the numbers, and say where its results lie."""
    name = func.name().partition(".")[0]
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, Elsewhere)]
    mixed = bool(there) and any(tensor.ndim > 0 for tensor in given if not isinstance(tensor, Elsewhere))
    if mixed and name not in _COPIES + _INDEXED:
        shapes = [(type(tensor).__name__, tuple(tensor.shape)) for tensor in given]
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {shapes}")
    device = kwargs.get("device")
    elsewhere = bool(there) if device is None else torch.device(device).type == DEVICE.type
    if there and (
        name in _WAITS or (name in _COPIES and not (elsewhere and isinstance(tree_leaves(args[0])[0], Elsewhere)))
    ):
        _waited(name)
        BROUGHT.append(max(tensor.numel() for tensor in there))
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda leaf: leaf.here if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    found = func(*args, **kwargs)
    known = {id(tensor.here): tensor for tensor in there}

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not elsewhere:
            return leaf
        return known.get(id(leaf)) if id(leaf) in known else Elsewhere(leaf)

    return tree_map(placed, found)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    """Makes tensors of Python's numbers, which torch does below the level at which operations are seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        numbers = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if numbers and device is not None and torch.device(device).type == DEVICE.type:
            return Elsewhere(func(*args, **{name: value for name, value in kwargs.items() if name != "device"}))
        return func(*args, **kwargs)


class _Known(type):
    def __instancecheck__(cls, thing: Any) -> bool:
        return isinstance(thing, _GENERATOR)


class _Generator(metaclass=_Known):
    """Makes generators of the processor, whatever device they are asked for."""

    def __new__(cls, device: Any = None) -> Any:
        return _GENERATOR()


@contextlib.contextmanager
def pretended() -> Iterator[torch.device]:
    """Yield the device, which exists for as long."""
    torch.Generator = _Generator  # type: ignore[assignment, misc]  # no class in its place is what mypy would have
    try:
        with _Constants(), _Operations():
            yield DEVICE
    finally:
        torch.Generator = _GENERATOR  # type: ignore[misc]  # the class itself again
