"""Decompositions and turns of large matrices of which much is nothing but rounding errors."""

from __future__ import annotations

import pytest
import torch

from precond.math.factors import revealing_qr as module
from precond.math.factors.orthogonal import complete_qr
from precond.math.factors.revealing_qr import revealing_qr, rounding
from precond.math.factors.turns import qr_turn

N = 520


def low_rank(rank: int, seed: int = 0) -> torch.Tensor:
    """Return a positive semidefinite matrix of this rank, its diagonal falling by and large."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(N, rank, dtype=torch.float64, generator=generator) * torch.logspace(0, -1, N)[:, None].double()
    rows[300] = rows[299]  # two columns in the middle that are equal
    return (rows @ rows.T).float()


@pytest.mark.parametrize("rank", [1, 100, 400, N])
def test_the_decomposition_multiplies_out_whatever_the_rank(rank: int) -> None:
    matrix = low_rank(rank)
    q, r = revealing_qr(matrix)
    exact = q.double()
    assert float((exact.T @ exact - torch.eye(N)).norm()) < 1e-4
    assert float((exact @ r.double() - matrix).norm() / matrix.norm()) < 1e-4
    left = r.tril(-1).norm(dim=0)  # of dependent columns alone
    assert float(left.max()) <= 2 * rounding(N, r.dtype) * float(r.diagonal().abs().max())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_rounding_errors_choose_no_direction(scale: float) -> None:
    rows = torch.cat([torch.eye(100), 0.05 * low_rank(100)[100:, :100] / low_rank(100).diagonal().max().sqrt()])
    matrix = rows @ rows.T * scale
    noise = 1.0 + 1e-7 * torch.randn(N, N, generator=torch.Generator().manual_seed(1))
    changes = [float((decompose(matrix * noise) - decompose(matrix)).norm()) for decompose in (_revealed, _plain)]
    assert changes[0] < 0.05
    assert changes[1] > 1.0


def _revealed(matrix: torch.Tensor) -> torch.Tensor:
    return revealing_qr(matrix)[0]


def _plain(matrix: torch.Tensor) -> torch.Tensor:
    return complete_qr(matrix[None])[0][0]


def test_low_rank_takes_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    reflect = module.reflect
    monkeypatch.setattr(module, "reflect", lambda columns: (calls.append(1), reflect(columns))[1])
    revealing_qr(low_rank(N))
    whole = len(calls)
    calls.clear()
    revealing_qr(low_rank(30))
    assert 0 < len(calls) <= whole // 2
    calls.clear()
    q, r = revealing_qr(torch.zeros(N, N))
    assert torch.equal(q, torch.eye(N))
    assert not bool(r.any())


@pytest.mark.parametrize("half", [False, True])
def test_a_large_turn_leads_to_its_coordinates(half: bool) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    a = torch.stack([low_rank(60)[order][:, order], low_rank(N, 1), torch.eye(N), low_rank(60)])
    a[2, 5, 5] = torch.inf
    turn, turned, orders, failed = qr_turn(a, half)
    assert failed.tolist() == [False, False, True, False]
    assert torch.equal(turn[2], torch.eye(N))
    assert torch.equal(orders[2], torch.arange(N))
    for member in (0, 1, 3):
        exact = turn[member].double()
        expected = (exact.T @ a[member].double() @ exact).tril()
        assert float((exact.T @ exact - torch.eye(N)).norm()) < 1e-4
        error = (turned[member].double().tril() - expected).norm() / expected.norm()
        assert float(error) < (2e-2 if half else 1e-4)
    assert torch.equal(a[0].diagonal()[orders[0]], a[0].diagonal().sort(descending=True).values)


def test_a_large_turn_leaves_what_nothing_is_known_of_where_it_is() -> None:
    known = torch.zeros(N, N)
    known[100:140, 100:140] = low_rank(30)[:40, :40] + torch.eye(40)
    turn, _, order, _ = qr_turn(known[None])
    unknown = order[0][40:]
    stays = turn[0][unknown, torch.arange(40, N)]
    assert torch.equal(stays, torch.ones(N - 40))
