"""Tiny problems that the tests race on, by ``toys.py:name``."""

import os
import signal
import time
from pathlib import Path

import torch

from precond.core import Budget, Metric
from precond.problems import LeastSquares, LinearSystem, Smooth, SmoothInstance, Training, TrainingInstance


def _linear_map(name, *, hook=None, steps=10):
    def build(seed, device):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(64, 5, generator=generator)
        y = x @ torch.randn(5, 3, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = torch.nn.Linear(5, 3)

        def loss(step):
            value = ((model(x) - y) ** 2).mean()
            return value if hook is None else hook(step, value)

        def evaluate():
            with torch.no_grad():
                return float(((model(x) - y) ** 2).mean())

        return TrainingInstance(model, loss, evaluate)

    metric = Metric("loss", log=True)
    return Training(name, "A linear map to learn.", metric, 0.5, Budget(steps=steps), build, evaluations=5)


def quick():
    return _linear_map("quick")


def slow():
    """Steps that take a while, so that a test can kill a race in the middle of a run; how long, a test may say."""
    pause = float(os.environ.get("PRECOND_TEST_PAUSE", "0.01"))

    def hook(step, value):
        time.sleep(pause)
        return value

    return _linear_map("slow", hook=hook)


def poisoned():
    """The loss becomes NaN at step 4."""
    return _linear_map("poisoned", hook=lambda step, value: value * float("nan") if step >= 4 else value)


def broken():
    """Raises inside the loss."""

    def hook(step, value):
        if step == 3:
            raise RuntimeError("no such batch")
        return value

    return _linear_map("broken", hook=hook)


def deadly():
    """Kills its own process, but only the first time."""
    mark = Path(os.environ["PRECOND_TEST_MARK"])

    def hook(step, value):
        if step == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    return _linear_map("deadly", hook=hook)


def valley():
    def build(seed, device):
        generator = torch.Generator().manual_seed(seed)
        x0 = torch.randn(4, generator=generator, dtype=torch.float64)

        def fun(x):
            return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

        return SmoothInstance(fun, x0, lambda x, loss, gradient: float(gradient.norm()))

    metric = Metric("gradient norm", log=True)
    return Smooth("valley", "Rosenbrock's valley.", metric, 1e-6, Budget(steps=300), build)


def lopsided():
    """A square matrix that is not symmetric."""
    generator = torch.Generator().manual_seed(3)
    matrix = torch.eye(20, dtype=torch.float64) * 4 + torch.randn(20, 20, generator=generator, dtype=torch.float64) / 4
    return LinearSystem("lopsided", "A matrix without symmetry.", matrix)


def tall():
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(60, 12, generator=generator, dtype=torch.float64) * torch.logspace(
        0, 2, 12, dtype=torch.float64
    )
    return LeastSquares("tall", "More rows than columns.", matrix)
