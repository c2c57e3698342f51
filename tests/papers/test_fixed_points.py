"""Halpern's, Picard's and Anderson's iterations against plain recurrences, and the displacement that they tend to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from precond.recipes.fixed_point import anderson, halpern, paired, picard
from precond.splittings import DouglasRachford


def averaged(seed: int = 0, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return a nonexpansive matrix and a shift."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return 0.5 * np.eye(n) + 0.5 * q, rng.normal(size=n)


def impossible(m: int = 10, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return equations without a solution that is not negative: a positive row is to be negative."""
    rng = np.random.default_rng(0)
    a = np.vstack([rng.normal(size=(m, n)), np.abs(rng.normal(size=n))])
    return a, np.append(a[:-1] @ np.abs(rng.normal(size=n)), -1.0)


@pytest.mark.parametrize("name", ["halpern", "picard", "relaxed"])
def test_matches_the_recurrence(name: str) -> None:
    q, c = averaged()
    x0 = np.ones(6)
    x, expected = x0, []
    for k in range(15):
        expected.append(x)
        image = q @ x + c
        if name == "halpern":
            x = x0 / (k + 2) + (k + 1) / (k + 2) * image
        else:
            theta = 0.5 if name == "relaxed" else 1.0
            x = (1 - theta) * x + theta * image
    iteration = {"halpern": halpern(), "picard": picard(), "relaxed": picard(relaxation=0.5)}[name]
    running = iteration.iterate(lambda v: torch.tensor(q) @ v + torch.tensor(c), torch.tensor(x0))
    np.testing.assert_allclose([f.x.numpy() for f in itertools.islice(running, 15)], expected, rtol=1e-12)


def test_anderson_matches_least_squares_on_the_last_residuals() -> None:
    rng = np.random.default_rng(2)
    q, c, x = 0.9 * averaged()[0], averaged()[1], rng.normal(size=6)
    points, images, expected = [], [], []
    for k in range(5):
        image = q @ x + c
        points.append(x)
        images.append(image)
        expected.append(x)
        residuals = np.array(points) - np.array(images)
        if k == 0:
            x = image
            continue
        r, g = np.diff(residuals, axis=0)[-3:], np.diff(images, axis=0)[-3:]
        x = image - np.linalg.lstsq(r.T, residuals[-1], rcond=None)[0] @ g
    running = anderson(memory=3).iterate(lambda v: torch.tensor(q) @ v + torch.tensor(c), torch.tensor(expected[0]))
    np.testing.assert_allclose([f.x.numpy() for f in itertools.islice(running, 5)], expected, rtol=1e-5, atol=1e-6)


def test_anderson_solves_a_linear_map_in_as_many_steps_as_it_has_dimensions() -> None:
    q, c = averaged()

    def operator(v):
        return 0.99 * torch.tensor(q) @ v + torch.tensor(c)

    last = list(itertools.islice(anderson().iterate(operator, torch.zeros(6, dtype=torch.float64)), 12))[-1]
    plain = list(itertools.islice(picard().iterate(operator, torch.zeros(6, dtype=torch.float64)), 12))[-1]
    assert float(last.residual.norm()) < 1e-6 * float(plain.residual.norm())


def test_everything_tends_to_the_displacement() -> None:
    """With the factor 2 of the paper: without it, Halpern's normalized iterates miss by half."""
    splitting = DouglasRachford(*impossible())
    long = list(itertools.islice(picard().iterate(splitting, splitting.start()), 3000))[-1]
    displacement = long.residual
    size = float(displacement.norm())
    assert size > 0.1
    errors = {}
    for count in (200, 2000):
        footing = list(itertools.islice(halpern().iterate(splitting, splitting.start()), count))[-1]
        errors[count] = float((footing.drift - displacement).norm()) / size
        assert float((footing.residual - displacement).norm()) < 0.2 * size
        assert float((footing.drift / 2 - displacement).norm()) > 0.3 * size
    assert errors[2000] < 0.15 * errors[200]
    mean = list(itertools.islice(picard().iterate(splitting, splitting.start()), 2000))[-1].drift
    assert float((mean - displacement).norm()) < 0.05 * size


def test_the_residual_of_halpern_falls_as_its_bound_says() -> None:
    """``||x_k - T x_k|| <= 2 ||x_0 - x*|| / (k + 1)``, where a rotation keeps the map itself from ever converging."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for k, footing in enumerate(itertools.islice(halpern().iterate(lambda v: turn @ v, start), 500)):
        assert float(footing.residual.norm()) <= 2 / (k + 1) + 1e-12
    stuck = list(itertools.islice(picard().iterate(lambda v: turn @ v, start), 500))[-1]
    assert float(stuck.residual.norm()) > 1.4


def test_paired_takes_turns() -> None:
    q, c = averaged()

    def operator(v):
        return torch.tensor(q) @ v + torch.tensor(c)

    start = torch.zeros(6, dtype=torch.float64)
    all_three = list(itertools.islice(paired().iterate(operator, start), 16))
    for own, alone in ((all_three[0::2], anderson()), (all_three[1::4], halpern()), (all_three[3::4], picard())):
        for mine, other in zip(own, alone.iterate(operator, start), strict=False):
            torch.testing.assert_close(mine.x, other.x)
