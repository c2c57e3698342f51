"""Classical small problems with equality constraints, whose optima are known.

From W. Hock, K. Schittkowski, *Test Examples for Nonlinear Programming Codes*, 1981; P. T. Boggs, J. W. Tolle, *A
strategy for global convergence in a sequential quadratic programming algorithm*, 1989; N. Maratos, 1978; J. J. More,
B. S. Garbow, K. E. Hillstrom, *Testing unconstrained optimization software*, 1981; M. J. D. Powell, 1970.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Classical:
    """A problem ``min f(x)`` subject to ``c(x) = 0``.

    Attributes:
        name: Its name in the literature.
        fun: The objective.
        constraints: The constraints, ``[n] -> [m]``.
        start: The usual starting point.
        optima: Objective values of known local minima, the best first.
    """

    name: str
    fun: Function
    constraints: Function
    start: tuple[float, ...]
    optima: tuple[float, ...]


ALL: dict[str, Classical] = {}


def _add(
    name: str,
    start: tuple[float, ...],
    optima: float | tuple[float, ...],
    fun: Function,
    *constraints: Callable[[Tensor], Tensor | float],
) -> None:
    def stacked(x: Tensor) -> Tensor:
        return torch.stack([torch.as_tensor(c(x), dtype=x.dtype) for c in constraints])

    values = optima if isinstance(optima, tuple) else (optima,)
    ALL[name] = Classical(name, fun, stacked, tuple(map(float, start)), values)


_R2 = math.sqrt(2)


def _nothing(x: Tensor) -> Tensor:
    return 0.0 * x.sum()


_add("hs6", (-1.2, 1), 0.0, lambda x: (1 - x[0]) ** 2, lambda x: 10 * (x[1] - x[0] ** 2))
_add("hs7", (2, 2), -math.sqrt(3), lambda x: torch.log(1 + x[0] ** 2) - x[1],
     lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4)  # fmt: skip
_add("hs8", (2, 1), -1.0, lambda x: _nothing(x) - 1, lambda x: x[0] ** 2 + x[1] ** 2 - 25, lambda x: x[0] * x[1] - 9)
_add("hs9", (0, 0), -0.5, lambda x: torch.sin(math.pi * x[0] / 12) * torch.cos(math.pi * x[1] / 16),
     lambda x: 4 * x[0] - 3 * x[1])  # fmt: skip
_add("hs26", (-2.6, 2, 2), (0.0, 21.153727), lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
     lambda x: (1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3)  # fmt: skip
_add(
    "hs27", (2, 2, 2), 0.04, lambda x: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2, lambda x: x[0] + x[2] ** 2 + 1
)
_add("hs28", (-4, 1, 1), 0.0, lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
     lambda x: x[0] + 2 * x[1] + 3 * x[2] - 1)  # fmt: skip
_add("hs39", (2, 2, 2, 2), -1.0, lambda x: -x[0], lambda x: x[1] - x[0] ** 3 - x[2] ** 2,
     lambda x: x[0] ** 2 - x[1] - x[3] ** 2)  # fmt: skip
_add("hs40", (0.8,) * 4, -0.25, lambda x: -x.prod(), lambda x: x[0] ** 3 + x[1] ** 2 - 1,
     lambda x: x[0] ** 2 * x[3] - x[2], lambda x: x[3] ** 2 - x[1])  # fmt: skip
_add("hs42", (1,) * 4, 28 - 10 * _R2, lambda x: ((x - 1 - torch.arange(4)) ** 2).sum(),
     lambda x: x[0] - 2, lambda x: x[2] ** 2 + x[3] ** 2 - 2)  # fmt: skip
_add("hs46", (_R2 / 2, 1.75, 0.5, 2, 2), 0.0,
     lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
     lambda x: x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 1, lambda x: x[1] + x[2] ** 4 * x[3] ** 2 - 2)  # fmt: skip
_add("hs47", (2, _R2, -1, 2 - _R2, 0.5), (0.0, -0.0267141),
     lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 3 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
     lambda x: x[0] + x[1] ** 2 + x[2] ** 3 - 3, lambda x: x[1] - x[2] ** 2 + x[3] - 1,
     lambda x: x[0] * x[4] - 1)  # fmt: skip
_add("hs48", (3, 5, -3, 2, -2), 0.0, lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
     lambda x: x.sum() - 5, lambda x: x[2] - 2 * (x[3] + x[4]) + 3)  # fmt: skip
_add("hs49", (10, 7, 2, -3, 0.8), 0.0,
     lambda x: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
     lambda x: x[0] + x[1] + x[2] + 4 * x[3] - 7, lambda x: x[2] + 5 * x[4] - 6)  # fmt: skip
_add("hs50", (35, -31, 11, 5, -5), 0.0,
     lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
     *(lambda x, i=i: x[i] + 2 * x[i + 1] + 3 * x[i + 2] - 6 for i in range(3)))  # fmt: skip
_add("hs51", (2.5, 0.5, 2, -1, 0.5), 0.0,
     lambda x: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
     lambda x: x[0] + 3 * x[1] - 4, lambda x: x[2] + x[3] - 2 * x[4], lambda x: x[1] - x[4])  # fmt: skip
_add("hs52", (2,) * 5, 1859 / 349,
     lambda x: (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
     lambda x: x[0] + 3 * x[1], lambda x: x[2] + x[3] - 2 * x[4], lambda x: x[1] - x[4])  # fmt: skip
_A, _B = math.asin(math.sqrt(1 / 4.2)), math.asin(math.sqrt(5 / 7.2))
_add("hs56", (1, 1, 1, _A, _A, _A, _B), -3.456, lambda x: -x[0] * x[1] * x[2],
     *(lambda x, i=i: x[i] - 4.2 * torch.sin(x[i + 3]) ** 2 for i in range(3)),
     lambda x: x[0] + 2 * x[1] + 2 * x[2] - 7.2 * torch.sin(x[6]) ** 2)  # fmt: skip
_add("hs61", (0, 0, 0), (-143.6461422, -81.91909603),
     lambda x: 4 * x[0] ** 2 + 2 * x[1] ** 2 + 2 * x[2] ** 2 - 33 * x[0] + 16 * x[1] - 24 * x[2],
     lambda x: 3 * x[0] - 2 * x[1] ** 2 - 7, lambda x: 4 * x[0] - x[2] ** 2 - 11)  # fmt: skip
_add("hs77", (2,) * 5, 0.2415051288,
     lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
     lambda x: x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 2 * _R2,
     lambda x: x[1] + x[2] ** 4 * x[3] ** 2 - 8 - _R2)  # fmt: skip
_add("hs78", (-2, 1.5, 2, -1, -1), -2.919700409, lambda x: x.prod(), lambda x: x @ x - 10,
     lambda x: x[1] * x[2] - 5 * x[3] * x[4], lambda x: x[0] ** 3 + x[1] ** 3 + 1)  # fmt: skip
_add("hs79", (2,) * 5, 0.0787768209,
     lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
     lambda x: x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * _R2, lambda x: x[1] - x[2] ** 2 + x[3] + 2 - 2 * _R2,
     lambda x: x[0] * x[4] - 2)  # fmt: skip
_add("hs100lnp", (1, 2, 0, 4, 0, 1, 1), 680.6300573,
     lambda x: (x[0] - 10) ** 2 + 5 * (x[1] - 12) ** 2 + x[2] ** 4 + 3 * (x[3] - 11) ** 2 + 10 * x[4] ** 6
     + 7 * x[5] ** 2 + x[6] ** 4 - 4 * x[5] * x[6] - 10 * x[5] - 8 * x[6],
     lambda x: 2 * x[0] ** 2 + 3 * x[1] ** 4 + x[2] + 4 * x[3] ** 2 + 5 * x[4] - 127,
     lambda x: 4 * x[0] ** 2 + x[1] ** 2 - 3 * x[0] * x[1] + 2 * x[2] ** 2 + 5 * x[5] - 11 * x[6])  # fmt: skip
_add("bt1", (0.08, 0.06), -1.0, lambda x: 100 * (x @ x) - x[0] - 100, lambda x: x @ x - 1)
_add("bt2", (10, 10, 10), 0.0325682, lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
     lambda x: x[0] * (1 + x[1] ** 2) + x[2] ** 4 - 4 - 3 * _R2)  # fmt: skip
_add("bt4", (3.1494, 1.4523, -3.6017), (-45.5105511, 3.2890377), lambda x: x[0] - x[1] + x[1] ** 3,
     lambda x: x @ x - 25, lambda x: x.sum() - 1)  # fmt: skip
_add("bt5", (2, 2, 2), (952.142494, 961.7151721),
     lambda x: 1000 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - x[0] * x[1] - x[0] * x[2],
     lambda x: 8 * x[0] + 14 * x[1] + 7 * x[2] - 56, lambda x: x @ x - 25)  # fmt: skip
_add("bt8", (1, 1, 1, 0, 0), 1.0, lambda x: x[:3] @ x[:3], lambda x: x[0] - 1 + x[3] ** 2,
     lambda x: x[0] ** 2 + x[1] ** 2 - 1 - x[4] ** 2)  # fmt: skip
_add("bt10", (2, 2), -1.0, lambda x: -x[0], lambda x: x[1] - x[0] ** 3, lambda x: x[1] - x[0] ** 2)
_add("bt12", (2,) * 5, 6.188118686, lambda x: 0.01 * x[0] ** 2 + x[1] ** 2, lambda x: x[0] + x[1] - x[2] ** 2 - 25,
     lambda x: x[0] ** 2 + x[1] ** 2 - x[3] ** 2 - 25, lambda x: x[0] - 2 - x[4] ** 2)  # fmt: skip
_add("maratos", (1.1, 0.1), -1.0, lambda x: -x[0] + 1e-6 * (x @ x - 1), lambda x: x @ x - 1)
_add("byrdsphr", (5, 1e-4, -1e-4), -4.683300133, lambda x: -x.sum(), lambda x: x @ x - 9,
     lambda x: (x[0] - 1) ** 2 + x[1] ** 2 + x[2] ** 2 - 9)  # fmt: skip
_add("genhs28", (-4,) + (1,) * 9, 0.9271736938, lambda x: ((x[:-1] + x[1:]) ** 2).sum(),
     *(lambda x, i=i: x[i] + 2 * x[i + 1] + 3 * x[i + 2] - 1 for i in range(8)))  # fmt: skip
_add("booth", (0, 0), 0.0, _nothing, lambda x: x[0] + 2 * x[1] - 7, lambda x: 2 * x[0] + x[1] - 5)
_add("gottfr", (0.5, 0.5), 0.0, _nothing, lambda x: x[0] - 0.1136 * (x[0] + 3 * x[1]) * (1 - x[0]),
     lambda x: x[1] + 7.5 * (2 * x[0] - x[1]) * (1 - x[1]))  # fmt: skip
_add("himmelbc", (1, 1), 0.0, _nothing, lambda x: x[0] ** 2 + x[1] - 11, lambda x: x[0] + x[1] ** 2 - 7)
_add("powellbs", (0, 1), 0.0, _nothing, lambda x: 1e4 * x[0] * x[1] - 1,
     lambda x: (-x[0]).exp() + (-x[1]).exp() - 1.0001)  # fmt: skip
_add("powellsq", (3, 1), 0.0, _nothing, lambda x: x[0] ** 2, lambda x: 10 * x[0] / (x[0] + 0.1) + 2 * x[1] ** 2)
