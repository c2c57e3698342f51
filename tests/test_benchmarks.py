"""The programs that measure do the work they say they do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from precond.recipes.registry import all_recipes

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_of_the_slab_benchmark_do_the_same_step() -> None:
    slab = load("slab")
    start = [torch.randn(4, 3) for _ in range(3)]
    grads, first, second = ([torch.randn(4, 3) for _ in range(3)] for _ in range(3))
    second = [t.square() for t in second]
    as_list, as_slab = [t.clone() for t in start], [t.clone() for t in start]
    slab.adamw_slab(as_slab, grads, torch.stack(first), torch.stack(second))
    slab.adamw_lists(as_list, grads, first, second)
    torch.testing.assert_close(as_list, as_slab)
    assert not torch.equal(as_list[0], start[0])


def test_the_table_goes_between_the_marks_of_its_device(tmp_path: Path) -> None:
    slab = load("slab")
    slab.PAGE = tmp_path / "page.md"
    slab.PAGE.write_text((FOLDER.parent / "docs" / "benchmarks.md").read_text())
    slab.write("NEW TABLE", "cuda")
    text = slab.PAGE.read_text()
    assert text.count("NEW TABLE") == 1
    assert (
        text.index(slab.BEGIN.format(device="cuda"))
        < text.index("NEW TABLE")
        < text.index(slab.END.format(device="cuda"))
    )
    slab.write("NEWER TABLE", "cuda")
    assert "NEW TABLE" not in slab.PAGE.read_text()


def test_headlines_belong_to_recipes() -> None:
    headlines = load("headlines")
    assert set(headlines.HEADLINES) <= set(all_recipes())
    assert all(measure.__doc__ for measure in headlines.HEADLINES.values())


def test_a_headline_reports_what_it_counted() -> None:
    text, values = load("headlines").least_squares()["lsqr"]
    assert values["error"] < 1e-6
    assert f"{values['iterations']} iterations" in text
