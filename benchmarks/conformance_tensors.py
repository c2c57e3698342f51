"""Cases of conformance: dtypes and shapes of parameters."""

from __future__ import annotations

import torch

from conformance_case import Broken, Maker, Named, Shape, Squares, case


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
