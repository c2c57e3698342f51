"""EFCP: compressed windows against plain loops, what error feedback keeps, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence, Method, named_tensors
from precond.filters.error_feedback import ErrorFeedback, LowRank, TopK
from precond.math.tensors.compress import Blocks, top_k
from precond.optim import LowRankMFAC, Optimizer, SparseMFAC, estimate_memory
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.fisher_window import FisherWindow
from precond.preconditioners.windows import LowRankWindow, SparseWindow
from precond.recipes.windowed import low_rank_m_fac, m_fac, sparse_m_fac
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps


def largest(a, k, block=None):
    """Keep the ``k`` entries of largest magnitude of each block."""
    kept, size = np.zeros_like(a), block or len(a)
    for first in range(0, len(a), size):
        piece = a[first : first + size]
        chosen = np.argsort(-np.abs(piece))[:k]
        kept[first + chosen] = piece[chosen]
    return kept


def sparse_reference(
    params, stream, lr, m, damping, density, momentum=0.0, weight_decay=0.0, feedback=True, dense=False, block=None
):
    """Sparse M-FAC of all parameters as one vector, with a dense Fisher matrix."""
    shapes, cuts = [p.shape for p in params], np.cumsum([p.size for p in params])[:-1]
    w = np.concatenate([p.ravel() for p in params])
    n = len(w)
    error, v, window = np.zeros(n), np.zeros(n), []
    for given in stream:
        g = np.concatenate([x.ravel() for x in given])
        a = error + g
        c = largest(a, max(1, int(density * (block or n))), block)
        error = a - c if feedback else error
        window = [*window, c][-m:]
        fisher = damping * np.eye(n) + sum(np.outer(x, x) for x in window) / len(window)
        v = momentum * v + np.linalg.solve(fisher, g if dense else c)
        w = (1 - weight_decay) * w - lr * v
    return [piece.reshape(shape) for piece, shape in zip(np.split(w, cuts), shapes, strict=True)]


@pytest.mark.parametrize(
    ("ours", "theirs", "decay"),
    [
        ({}, {}, 0.0),
        ({"momentum": 0.9}, {"momentum": 0.9}, 0.01),
        ({"feedback": False}, {"feedback": False}, 0.0),
        ({"precondition": "gradient"}, {"dense": True}, 0.0),
        ({"block": 24}, {"block": 24}, 0.0),
        ({"block": 7, "precondition": "gradient"}, {"block": 7, "dense": True}, 0.0),
    ],
)
def test_sparse_equals_a_plain_loop(ours, theirs, decay):
    stream, params = gradients(20), start()
    before = [p.detach().numpy().copy() for p in params]
    method = sparse_m_fac(memory=6, damping=0.1, density=0.1, half=False, **ours)
    moved = run(lambda ps: Optimizer(ps, method, lr=1e-3, weight_decay=decay), stream, params)
    expected = sparse_reference(before, stream, 1e-3, 6, 0.1, 0.1, weight_decay=decay, **theirs)
    assert_close(moved, expected, 1e-9)


def low_rank_reference(w, stream, lr, m, damping, rank, momentum=0.0, weight_decay=0.0, seed=0):
    """Low-rank M-FAC of one tensor, with a dense Fisher matrix."""
    shape = w.shape
    w = w.reshape(shape[0] if shape else 1, -1)
    rank = min(rank, *w.shape)
    right = torch.randn(w.shape[1], rank, generator=torch.Generator().manual_seed(seed)).double().numpy()
    error, v, window = np.zeros_like(w), np.zeros(w.size), []
    for g in stream:
        a = error + g.reshape(w.shape) + weight_decay * w
        left = np.linalg.qr(a @ right)[0]
        right = a.T @ left
        c = left @ right.T
        error = a - c
        window = [*window, c.ravel()][-m:]
        fisher = damping * np.eye(w.size) + sum(np.outer(x, x) for x in window) / len(window)
        v = momentum * v + (1 - momentum) * np.linalg.solve(fisher, c.ravel())
        w = w - lr * v.reshape(w.shape)
    return w.reshape(shape)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"rank": 2}, {"rank": 2}),
        ({"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1, "rank": 1}),
    ],
)
def test_low_rank_equals_a_plain_loop(ours, theirs):
    stream, params = with_gaps(gradients(20)), start()
    expected = each(lambda w, gs: low_rank_reference(w, gs, 1e-3, 6, 0.1, **theirs), stream, params)
    assert_close(run(lambda ps: LowRankMFAC(ps, lr=1e-3, ngrads=6, damp=0.1, **ours), stream, params), expected, 1e-9)


@pytest.mark.parametrize(
    "compressor", [TopK(0.1), TopK(0.2, block=7), TopK(0.1, half=False), LowRank(1), LowRank(2)], ids=repr
)
def test_all_that_goes_in_comes_out_or_waits(compressor):
    lens, rng = ErrorFeedback(compressor), np.random.default_rng(0)
    state = lens.init(torch.empty(2, 6, 5, dtype=torch.float64))
    put, got = torch.zeros(2, 6, 5, dtype=torch.float64), torch.zeros(2, 6, 5, dtype=torch.float64)
    for _ in range(40):
        v = torch.tensor(rng.standard_normal((2, 6, 5)))
        got += lens.push(state, v, Evidence())
        put += v
    torch.testing.assert_close(got + state.error, put, rtol=0, atol=1e-12)


def test_any_preconditioner_can_be_fed_compressed_gradients():
    w = torch.zeros(5, 4, requires_grad=True)
    optimizer = Optimizer([w], Method(estimator=ErrorFeedback(TopK(0.2)), preconditioner=Diagonal(0.99)), lr=0.1)
    target = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        w.grad = w.detach() - target
        optimizer.step()
    assert (w - target).abs().max() < 0.05


def test_what_is_kept_is_what_the_window_holds():
    for kept, window in (
        (TopK(0.1), SparseWindow(0.1)),
        (TopK(0.3, block=8, half=False), SparseWindow(0.3, block=8, half=False)),
        (LowRank(2), LowRankWindow(2)),
    ):
        v = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).double()
        c = kept.compress(kept.init(v), v)
        state = window.init(v, 1)
        window.write(state, c)
        torch.testing.assert_close(window.read(state, v), c, rtol=0, atol=1e-12)


def test_the_largest_entries_are_kept_block_by_block():
    v = torch.randn(3, 23, generator=torch.Generator().manual_seed(0)).double()
    for size in (None, 5, 8, 23, 40):
        blocks = Blocks.of(23, 0.3, size)
        kept = TopK(0.3, size, half=False).compress(None, v)
        for row, original in zip(kept.numpy(), v.numpy(), strict=True):
            np.testing.assert_array_equal(row, largest(original, blocks.kept, blocks.size))
        assert top_k(v, blocks)[0].dtype == torch.int16
    assert Blocks.of(100_000, 0.01, None).dtype == torch.int32
    assert Blocks.of(100_000, 0.01, 2**15).dtype == torch.int16


def window_bytes(optimizer):
    """Return the bytes of the rows of all windows."""
    return sum(
        t.numel() * t.element_size()
        for slab in optimizer._slabs
        for name, t in named_tensors(slab.state.preconditioner)
        if name.startswith("rows")
    )


def test_windows_take_the_bytes_that_the_paper_counts():
    net = torch.nn.Linear(300, 500)
    n, m = sum(p.numel() for p in net.parameters()), 16
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    for block, bytes_per_entry in ((None, 4 + 2), (2**15, 2 + 2)):
        optimizer = SparseMFAC(net.named_parameters(), lr=1e-6, ngrads=m, k_init=0.01, block_size=block)
        optimizer.step()
        entries = int(0.01 * n) if block is None else -(-n // block) * int(0.01 * block)
        assert window_bytes(optimizer) == bytes_per_entry * m * entries
        method = sparse_m_fac(memory=m, density=0.01, block=block)
        assert optimizer.state_bytes() == estimate_memory(net, method)
    optimizer = LowRankMFAC(net.named_parameters(), lr=1e-6, ngrads=m, rank=2)
    optimizer.step()
    assert window_bytes(optimizer) == 4 * m * (2 * (300 + 500) + (500 + 1))
    assert optimizer.state_bytes() == estimate_memory(net, low_rank_m_fac(memory=m, rank=2))


def test_headline_error_feedback_keeps_what_compression_loses():
    """Logistic regression: a window of 5 % of the entries is as good as a full one with feedback, and not without."""
    rng, n = np.random.default_rng(0), 200
    x = torch.tensor(rng.standard_normal((600, n)))
    y = (x @ torch.tensor(rng.standard_normal(n)) > 0).double()

    def final(method):
        w = torch.zeros(n, dtype=torch.float64, requires_grad=True)
        optimizer, draw = Optimizer([w], method, lr=0.03), np.random.default_rng(1)
        for _ in range(300):
            rows = draw.integers(0, 600, 64)
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(x[rows] @ w, y[rows]).backward()
            optimizer.step()
        return torch.nn.functional.binary_cross_entropy_with_logits(x @ w.detach(), y).item()

    dense = final(m_fac(memory=32, damping=1e-2))
    fed_back = final(sparse_m_fac(memory=32, damping=1e-2, density=0.05))
    lost = final(sparse_m_fac(memory=32, damping=1e-2, density=0.05, feedback=False))
    assert fed_back <= 1.2 * dense
    assert lost >= 2 * fed_back


def test_refusals():
    with pytest.raises(BadInputError, match="share"):
        TopK(0.0)
    with pytest.raises(BadInputError, match="dense one"):
        SparseWindow(1.0)
    with pytest.raises(BadInputError, match="rank"):
        LowRank(0)
    with pytest.raises(BadInputError, match="rank"):
        LowRankWindow(0)
    with pytest.raises(BadInputError, match="precondition"):
        sparse_m_fac(precondition="both")
    assert FisherWindow(4, window=LowRankWindow()).scope.value == "matrix"


def test_a_rank_beyond_the_sides_keeps_everything():
    v = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = ErrorFeedback(LowRank(9))
    state = part.init(v)
    assert torch.allclose(part.push(state, v, Evidence()), v, atol=1e-12)
    assert float(state.error.abs().max()) < 1e-12


def test_subspace_iteration_goes_on_after_a_gradient_of_zeros():
    v = torch.outer(torch.arange(1.0, 4.0), torch.arange(1.0, 6.0)).double()[None]
    part = LowRank(1)
    state = part.init(v)
    part.compress(state, torch.zeros_like(v))
    assert torch.allclose(part.compress(state, v), v)


def test_an_error_that_would_not_be_finite_stays_as_it_was():
    part = ErrorFeedback(TopK(0.5, half=False))
    v = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    state = part.init(v)
    part.push(state, v, Evidence())
    bad = v.clone()
    bad[0, 1] = torch.nan
    part.push(state, bad, Evidence())
    assert state.error.tolist()[0] == [0.0, 0.0, 2.0, 1.0]
    assert state.error.tolist()[1] == [2.0, 0.0, 3.0, 0.0]
