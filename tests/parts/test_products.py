"""Products, halves of symmetric products and orthogonal bases of large matrices: faster, and the same to rounding."""

from __future__ import annotations

import contextlib
import time

import pytest
import torch

from precond.math.factors.eigen import gram_eigenvectors
from precond.math.factors.orthogonal import complete_qr, orthogonal
from precond.math.machine import products
from precond.math.machine.products import fast_products, has_fast_bfloat16, onednn_is_exact
from precond.math.tensors.modes import add_gram, complete, mode_products


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(torch.linalg.norm(actual.double() - expected) / torch.linalg.norm(expected))


def test_fast_products_keep_single_precision_and_leave_the_setting_as_it_was() -> None:
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    a, b = torch.randn(2, 200, 300), torch.randn(2, 300, 250)
    with contextlib.suppress(ZeroDivisionError), fast_products(a, 2**30):
        inside = settings.fp32_precision
        product = torch.bmm(a, b)
        raise ZeroDivisionError
    assert relative(product, a.double() @ b.double()) < 1e-6
    assert settings.fp32_precision == before
    assert inside == ("bf16" if onednn_is_exact() else before)


def test_where_products_would_be_rounded_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_relative_error", lambda a, b: 1e-3)
    onednn_is_exact.cache_clear()
    try:
        before = torch.backends.mkldnn.matmul.fp32_precision
        with fast_products(torch.zeros(1), 2**30):
            assert torch.backends.mkldnn.matmul.fp32_precision == before
    finally:
        onednn_is_exact.cache_clear()


def test_other_devices_have_no_fast_bfloat16_of_a_processor() -> None:
    assert not has_fast_bfloat16(torch.device("meta"))


def fast_bfloat16(monkeypatch: pytest.MonkeyPatch, able: bool = True, **environment: str) -> bool:
    """What is said of a processor with instructions for bfloat16, or without, in an environment."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for name in ("PRECOND_BFLOAT16", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    has_fast_bfloat16.cache_clear()
    try:
        return has_fast_bfloat16(torch.device("cpu"))
    finally:
        has_fast_bfloat16.cache_clear()


def test_bfloat16_counts_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_bfloat16(monkeypatch)
    assert not fast_bfloat16(monkeypatch, able=False)


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_onednn_may_use_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its instructions products of bfloat16 take many times as long as those of float32."""
    for limit in ("AVX512_CORE", "avx512_core_vnni", "AVX2_VNNI_2"):
        assert not fast_bfloat16(monkeypatch, **{name: limit})
    for limit in ("AVX512_CORE_BF16", "AVX512_CORE_AMX", "DEFAULT", ""):
        assert fast_bfloat16(monkeypatch, **{name: limit})


def test_runs_on_several_kinds_of_machines_can_do_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not fast_bfloat16(monkeypatch, PRECOND_BFLOAT16="0")
    assert fast_bfloat16(monkeypatch, PRECOND_BFLOAT16="1")


def test_how_busy_a_machine_is_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of one run, and a run that is resumed, must take the same products: clocks are not looked at."""

    read = []

    def noted() -> float:
        read.append(None)
        return 0.0

    for clock in ("perf_counter", "monotonic", "time", "process_time", "perf_counter_ns"):
        monkeypatch.setattr(time, clock, noted)
    fast_bfloat16(monkeypatch)
    onednn_is_exact.cache_clear()
    onednn_is_exact()
    assert not read


@pytest.mark.parametrize("n", [40, 512, 530])
@pytest.mark.parametrize("mode", [0, 1])
def test_half_of_a_gram_matrix_is_completed(n: int, mode: int) -> None:
    v = torch.randn(2, n, 7, dtype=torch.float64) if mode == 0 else torch.randn(2, 7, n, dtype=torch.float64)
    factor = torch.eye(n, dtype=torch.float64).repeat(2, 1, 1)
    rows = v if mode == 0 else v.mT
    expected = 0.75 * (0.75 * factor + 0.5 * rows @ rows.mT) + 0.5 * rows @ rows.mT
    for _ in range(2):
        add_gram(factor, v, mode, beta=0.75, alpha=0.5)
    complete(factor)
    torch.testing.assert_close(factor, expected)


@pytest.mark.parametrize("columns", [540, 200])
def test_large_orthogonal_bases_are_those_of_lapack(columns: int) -> None:
    matrices = torch.randn(2, 540, columns, dtype=torch.float64)
    q = orthogonal(matrices)
    torch.testing.assert_close(q[..., :columns], torch.linalg.qr(matrices).Q)
    torch.testing.assert_close(q.mT @ q, torch.eye(540, dtype=torch.float64).expand(2, -1, -1))


def test_columns_that_depend_on_one_another_give_an_orthogonal_basis() -> None:
    matrices = torch.zeros(1, 520, 520)
    matrices[..., :3] = 1.0
    q = orthogonal(matrices)
    torch.testing.assert_close(q.mT @ q, torch.eye(520)[None], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(6, 2), (5, 5), (530, 40)])
def test_eigenvectors_of_a_thin_gram_matrix(shape: tuple[int, int]) -> None:
    v = torch.randn(2, *shape, dtype=torch.float64)
    v[1] *= 1e120  # the product would overflow in single precision, and does not have to be formed
    vectors, failed = gram_eigenvectors(v)
    assert not bool(failed.any())
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(shape[0], dtype=v.dtype).expand(2, -1, -1))
    rotated = vectors[:1].mT @ (v[:1] @ v[:1].mT) @ vectors[:1]
    values = torch.linalg.eigvalsh(v[0] @ v[0].mT).flip(0).clamp(min=0)
    torch.testing.assert_close(rotated[0], torch.diag(values), atol=1e-8 * float(values[0]), rtol=1e-8)


def test_a_thin_matrix_that_is_not_finite_fails_alone() -> None:
    v = torch.randn(3, 6, 2)
    v[1, 0, 0] = torch.nan
    vectors, failed = gram_eigenvectors(v)
    assert failed.tolist() == [False, True, False]
    assert torch.equal(vectors[1], torch.eye(6))
    assert bool(vectors.isfinite().all())


@pytest.mark.parametrize(("n", "k"), [(40, 17), (512, 130), (520, 520), (512, 1)])
def test_a_complete_decomposition_multiplies_out(n: int, k: int) -> None:
    matrices = torch.randn(2, n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, r = complete_qr(matrices)
    assert r.shape == (2, k, k)
    assert bool((r.tril(-1) == 0).all())
    torch.testing.assert_close(q[..., :k] @ r, matrices, rtol=0, atol=1e-12)
    torch.testing.assert_close(q.mT @ q, torch.eye(n, dtype=torch.float64).expand(2, n, n), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 7])
def test_small_products_are_not_rounded_to_bfloat16(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the batch: which slab a tensor is in must not change its step."""
    monkeypatch.setitem(products._MULTIPLIES_BFLOAT16, "cpu", True)
    torch.manual_seed(0)
    v, basis = torch.randn(batch, 12, 8), torch.linalg.qr(torch.randn(batch, 12, 12))[0].bfloat16()

    def course() -> tuple[torch.Tensor, torch.Tensor]:
        factor = torch.zeros(batch, 12, 12)
        add_gram(factor, v, 0, beta=0.0, alpha=1.0, half=True)
        return mode_products(v, [basis, None]), factor

    product, gram = course()
    torch.testing.assert_close(product, basis.float() @ v, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gram, v @ v.mT, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(products, "_LEAST_HALF", 12 * 12 * 8)
    for rounded, exact in zip(course(), (product, gram), strict=True):
        assert 1e-4 < float((rounded - exact).norm() / exact.norm()) < 1e-2
