"""What the tests of training recipes share: mixed tensors, a stream of gradients, two toy problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

SHAPES = ((5, 3), (5, 3), (4, 7), (6,), (6,), (3,), (), (1, 5), (5, 1), (4, 2, 3, 3), (3, 2, 2))


def start(
    shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    """Return one random parameter per shape."""
    rng = np.random.default_rng(seed)
    return [torch.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True) for shape in shapes]


def gradients(steps: int, shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 1) -> list[list[np.ndarray]]:
    """Return a stream of gradients with a lasting direction and sizes that differ between entries and steps."""
    rng = np.random.default_rng(seed)
    mean = [rng.standard_normal(shape) for shape in shapes]
    size = [10.0 ** rng.uniform(-2, 1, shape) for shape in shapes]
    return [
        [
            np.asarray((m + rng.standard_normal(m.shape)) * s * (1 + 0.5 * np.sin(t)))
            for m, s in zip(mean, size, strict=True)
        ]
        for t in range(steps)
    ]


def run(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    stream: Sequence[Sequence[np.ndarray | None]],
    params: list[Tensor],
) -> list[np.ndarray]:
    """Feed the stream to an optimizer and return the parameters; ``None`` is a parameter without a gradient."""
    optimizer = make(params)
    for given in stream:
        for param, gradient in zip(params, given, strict=True):
            param.grad = None if gradient is None else torch.tensor(gradient, dtype=param.dtype)
        optimizer.step()
    return [param.detach().double().numpy().copy() for param in params]


def with_gaps(stream: list[list[np.ndarray]]) -> list[list[np.ndarray | None]]:
    """Take the gradient from one of every three parameters, in turn, at each step but the first."""
    return [
        [None if t and (t + i) % 3 == 0 else gradient for i, gradient in enumerate(given)]
        for t, given in enumerate(stream)
    ]


def each(
    reference: Callable[[np.ndarray, list[np.ndarray]], np.ndarray],
    stream: Sequence[Sequence[np.ndarray | None]],
    params: Sequence[Tensor],
) -> list[np.ndarray]:
    """Run a reference for single tensors, ``(w, gradients) -> w``, over every parameter."""
    return [
        reference(param.detach().double().numpy().copy(), [given[i] for given in stream if given[i] is not None])
        for i, param in enumerate(params)
    ]


def assert_close(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], tolerance: float) -> None:
    """Compare parameter by parameter, relative to the largest entry of each."""
    assert len(ours) == len(theirs)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.shape == b.shape
        error = np.abs(a - b).max() / max(1.0, np.abs(b).max())
        assert error <= tolerance, f"parameter {i} of shape {a.shape}: {error:.2e}"


class KroneckerQuadratic:
    """``f(W) = <A (W - W*) B, W - W*> / 2`` with spectra of condition 100: a problem with the structure of a layer.

    Args:
        m: Rows.
        n: Columns.
        seed: Seed of eigenbases and solution.
    """

    def __init__(self, m: int = 32, n: int = 24, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)

        def spd(size: int) -> Tensor:
            q, _ = np.linalg.qr(rng.standard_normal((size, size)))
            return torch.tensor(q * 10.0 ** rng.uniform(-2, 0, size) @ q.T)

        self.a, self.b = spd(m), spd(n)
        self.solution = torch.tensor(rng.standard_normal((m, n)))

    def loss(self, w: Tensor) -> float:
        """Return the value at ``w``."""
        e = w - self.solution
        return 0.5 * float((self.a @ e @ self.b * e).sum())

    def best(
        self, make: Callable[[list[Tensor], float], torch.optim.Optimizer], lrs: Sequence[float], steps: int, *,
        linear_decay: bool = False,
    ) -> float:  # fmt: skip
        """Return the lowest final loss over learning rates, from zero."""
        best = float("inf")
        for lr in lrs:
            w = torch.zeros_like(self.solution, requires_grad=True)
            optimizer = make([w], lr)
            for t in range(steps):
                if linear_decay:
                    optimizer.param_groups[0]["lr"] = lr * (1 - t / steps)
                w.grad = self.a @ (w.detach() - self.solution) @ self.b
                optimizer.step()
            final = self.loss(w.detach())
            best = min(best, final if np.isfinite(final) else float("inf"))
        return best
