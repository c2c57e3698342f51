"""Codes of few bits, packed triangles, and the repair of bases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precond.core import Role
from precond.math.factors.bjorck import bjorck, restored
from precond.math.tensors.codes import (
    Power,
    dynamic_tree,
    linear_square,
    normal_quantiles,
    pack_nibbles,
    unpack_nibbles,
)  # fmt: skip
from precond.math.tensors.packing import mirror, pack_lower, packed_length, unpack_lower
from precond.storage.blocks import Blocks
from precond.storage.blockwise import Blockwise

SIGNED = [
    Power(8, 1),
    Power(8, 2),
    Power(8, 4),
    Power(4, 2),
    Power(4, 3),
    linear_square(),
    dynamic_tree(),
    normal_quantiles(),
]
CODES = [*SIGNED, Power(8, 4, signed=False), Power(4, 2, signed=False), linear_square(8), dynamic_tree(8)]


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_a_code_is_the_index_of_its_number(code):
    values = code.values()
    assert list(values) == sorted(set(values))
    assert len(values) <= 2**code.bits
    assert values[-1] == 1.0
    assert 0.0 in values
    table = torch.tensor(values, dtype=torch.float64)
    codes = torch.arange(len(values), dtype=torch.uint8)
    torch.testing.assert_close(code.decode(codes, torch.float64), table, rtol=1e-14, atol=1e-16)
    assert torch.equal(code.encode(table.clone()), codes)
    assert float(code.decode(codes, torch.float32)[-1]) == 1.0, "the largest entry of a block must not shrink"


@pytest.mark.parametrize("code", SIGNED, ids=repr)
def test_no_number_is_further_from_its_code_than_to_the_next(code):
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    table = torch.tensor(code.values(), dtype=torch.float64)
    found = code.decode(code.encode(x.clone()), torch.float64)
    above = table[torch.searchsorted(table, x).clamp(max=len(table) - 1)]
    below = table[(torch.searchsorted(table, x, right=True) - 1).clamp(min=0)]
    assert bool((((found - above).abs() < 1e-12) | ((found - below).abs() < 1e-12)).all())


def test_the_dynamic_tree_of_eight_bits_reaches_six_decades_down():
    assert min(abs(x) for x in dynamic_tree(8).values() if x) < 1e-6
    assert len(dynamic_tree(8).values()) == 256


def test_normal_quantiles_are_the_published_table():
    """Five of the sixteen numbers as the paper's appendix prints them."""
    values = normal_quantiles().values()
    assert values[7] == 0.0
    for index, published in {0: -1.0, 1: -0.6962, 6: -0.0911, 8: 0.0796, 14: 0.7230}.items():
        assert abs(values[index] - published) < 1e-4


def test_nibbles_come_back():
    codes = torch.randint(0, 16, (3, 5, 64), dtype=torch.uint8)
    assert pack_nibbles(codes).shape == (3, 5, 32)
    assert torch.equal(unpack_nibbles(pack_nibbles(codes)), codes)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 70), tiles=st.integers(1, 3))
def test_packed_triangles_come_back(n, tiles):
    matrices = torch.randn(2, tiles, n, n)
    packed = pack_lower(matrices)
    assert packed.shape == (2, tiles, packed_length(n))
    assert n * (n + 1) // 2 <= packed_length(n) <= n * n / 2 + n * n / 32 + n
    back = unpack_lower(packed, n)
    assert torch.equal(back.tril(), matrices.tril())
    whole = mirror(back)
    assert torch.equal(whole, whole.mT)
    assert torch.equal(whole.tril(), matrices.tril())
    rounded = torch.empty(packed.shape, dtype=torch.bfloat16)
    assert torch.equal(pack_lower(matrices, out=rounded), packed.bfloat16())
    assert torch.equal(unpack_lower(rounded, n, torch.float32).tril(), matrices.bfloat16().float().tril())


def test_bjorck_moves_singular_values_to_one():
    q = torch.linalg.qr(torch.randn(3, 20, 20, dtype=torch.float64)).Q
    near = q + 0.02 * torch.randn_like(q)
    identity = torch.eye(20, dtype=torch.float64)
    errors = [float((v.mT @ v - identity).norm()) for v in (bjorck(near, steps) for steps in (0, 1, 2, 8))]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[3] < 1e-12
    assert bjorck(near, 0) is near


def test_what_lost_orthogonality_gets_it_back_and_the_rest_stays():
    q = torch.linalg.qr(torch.randn(3, 20, 20, dtype=torch.float64)).Q
    assert restored(q, 0.01) is q
    near = q.clone()
    near[1] *= 1.02
    near[2] = torch.nan
    found = restored(near, 0.01)
    assert torch.equal(found[0], q[0])
    assert torch.equal(found[1], bjorck(near[1:2], 1)[0])
    assert bool(found[2].isnan().all())
    assert restored(near.bfloat16(), 0.01).dtype == torch.bfloat16


def test_a_block_is_as_exact_as_its_largest_entry_allows():
    x = torch.randn(2, 512, dtype=torch.float64)
    x[:, 256:] *= 1e-8  # another block: another scale
    back = Blocks.of(x, Power(8, 1), 256).decode()
    for part in (slice(0, 256), slice(256, 512)):
        largest = x[:, part].abs().amax(1, keepdim=True)
        assert bool(((back - x)[:, part].abs() <= largest / 254 * (1 + 1e-9)).all())


@pytest.mark.parametrize("bits", [4, 8])
def test_second_moments_keep_their_size_over_many_orders(bits):
    x = torch.logspace(0, -6 if bits == 8 else -3, 256, dtype=torch.float64).view(1, -1)
    back = Blockwise(bits, least=0).rest(x, Role.NON_NEGATIVE).decode()
    ratio = (back / x).log2().abs()
    assert float(ratio.max()) < 1.1, "never off by much more than a factor of two"
    assert float(ratio[:, : 80 if bits == 8 else 20].max()) < 0.5


@pytest.mark.parametrize("bits", [4, 8])
def test_correlations_survive_axes_of_very_different_size(bits):
    """Entry by entry, the error is a fraction of the root of the product of the diagonal entries."""
    x = torch.randn(1, 24, 200, dtype=torch.float64) * torch.logspace(0, -8, 24, dtype=torch.float64)[:, None]
    factor = x @ x.mT
    back = Blockwise(bits, least=0).rest(factor, Role.ROOT).decode()
    scale = factor.diagonal(dim1=1, dim2=2).sqrt()
    assert float(((back - factor) / scale[:, :, None] / scale[:, None, :]).abs().max()) < (0.08 if bits == 4 else 0.005)
    assert torch.equal(back.diagonal(dim1=1, dim2=2), factor.diagonal(dim1=1, dim2=2))
    assert torch.equal(back, back.mT)


def test_what_is_not_finite_stays_so_within_its_block():
    x = torch.ones(1, 512)
    x[0, 3] = torch.nan
    back = Blockwise(8, least=0).rest(x, Role.SIGNED).decode()
    assert bool(back[0, :256].isnan().all())
    assert torch.equal(back[0, 256:], x[0, 256:])
