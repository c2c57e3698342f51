"""Supervised learning as a `Training` problem: data in memory, shuffled batches, a loss on held-out data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from precond.core import BadInputError, Budget, Metric
from precond.problems.base import Training, TrainingInstance

_CHUNK = 4096
_EPOCH_SEEDS = 1_000_003


def supervised(
    name: str,
    make_model: Callable[[], nn.Module],
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    batch: int = 64,
    metric: Metric | None = None,
    target: float = 0.0,
    horizon: Budget | None = None,
    description: str = "",
    evaluations: int = 20,
) -> Training:
    """Return the problem of fitting a module to pairs of inputs and targets that fit in memory.

    The seed decides the initial weights (``make_model`` runs with torch's generator set to it) and the order of the
    batches: every epoch is a new permutation, and an incomplete last batch is left out.

    Args:
        name: Name of the problem.
        make_model: Returns a fresh module; called once for each run.
        train: Inputs ``[samples, ...]`` and targets ``[samples, ...]``.
        validation: The same, held out.
        loss: Maps ``(model(inputs), targets)`` to the mean loss, 0-d.
        batch: Samples in a batch; at most the number of training samples.
        metric: What is measured; the loss on the held-out data, ``"validation loss"``, unless renamed.
        target: Value of the metric that counts as solved.
        horizon: Length of a run; five epochs unless given.
        description: One sentence on the data and the task.
        evaluations: How many times a run is evaluated on the way.

    Returns:
        The problem.
    """
    for what, (x, y) in (("training", train), ("validation", validation)):
        if len(x) == 0 or len(x) != len(y):
            raise BadInputError(
                f"{name}: {len(x)} {what} inputs and {len(y)} targets; give as many of both, at least 1"
            )
    if batch < 1:
        raise BadInputError(f"{name}: a batch needs at least 1 sample, not {batch}")
    samples = len(train[0])
    batch = min(batch, samples)
    per_epoch = samples // batch

    def build(seed: int, device: torch.device) -> TrainingInstance:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = make_model().to(device)
        x, y = (tensor.to(device) for tensor in train)
        x_held_out, y_held_out = (tensor.to(device) for tensor in validation)
        epochs: dict[int, Tensor] = {}

        def order(epoch: int) -> Tensor:
            if epoch not in epochs:
                generator = torch.Generator().manual_seed((seed + 1) * _EPOCH_SEEDS + epoch)
                epochs.clear()
                epochs[epoch] = torch.randperm(samples, generator=generator).to(device)
            return epochs[epoch]

        def batch_loss(step: int) -> Tensor:
            epoch, position = divmod(step, per_epoch)
            chosen = order(epoch)[position * batch : (position + 1) * batch]
            return loss(model(x[chosen]), y[chosen])

        def evaluate() -> float:
            training = model.training
            model.eval()
            with torch.no_grad():
                parts = zip(x_held_out.split(_CHUNK), y_held_out.split(_CHUNK), strict=True)
                total = sum(float(loss(model(inputs), targets)) * len(inputs) for inputs, targets in parts)
            model.train(training)
            return total / len(x_held_out)

        return TrainingInstance(model, batch_loss, evaluate)

    return Training(
        name=name,
        description=description or f"{samples} training and {len(validation[0])} validation samples",
        metric=metric or Metric("validation loss"),
        target=target,
        horizon=horizon or Budget(steps=5 * per_epoch),
        build=build,
        evaluations=evaluations,
    )
