"""The catalogue says what the recipes say, with numbers that are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from precond.catalogue import entries
from precond.catalogue.measured import measurements
from precond.catalogue.memory import memory_of
from precond.catalogue.page import page
from precond.core import UnknownNameError
from precond.recipes.registry import all_recipes, find

ROOT = Path(__file__).parents[2]


def test_every_recipe_has_an_entry() -> None:
    assert {entry.name for entry in entries()} == set(all_recipes())


def test_the_committed_page_is_the_rendered_one() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == page(), "run `make docs` and commit docs/methods.md"


@pytest.mark.parametrize(("name", "bytes_per_parameter"), [("adamw", 8), ("lion", 4), ("adan", 16)])
def test_memory_is_counted(name: str, bytes_per_parameter: float) -> None:
    """Two float32 averages for AdamW, one for Lion, three and the previous gradient for Adan."""
    memory = memory_of(find(name).build())
    assert memory.unit == "bytes per parameter"
    assert memory.amount == pytest.approx(bytes_per_parameter, rel=1e-4)


def test_memory_of_iterations_is_counted_in_vectors() -> None:
    memory = memory_of(find("cg").build())
    assert memory.unit == "vectors"
    assert 4 <= memory.amount < 6  # x, r, p, z and A p; scalars besides


def test_every_recipe_is_measured() -> None:
    assert set(measurements()) == set(all_recipes())  # benchmarks/headlines.py NAME writes what is missing
    for name, measured in measurements().items():
        assert measured.finding.endswith("."), name
        assert measured.values, name
        assert measured.command.startswith("python benchmarks/headlines.py"), name


def test_filters_of_the_catalogue() -> None:
    assert {entry.family for entry in entries(family="krylov")} == {"krylov"}
    assert all("linear-system" in entry.kinds for entry in entries(kind="linear-system"))
    assert "soap" in {entry.name for entry in entries(search="SOAP shampoo")}
    with pytest.raises(UnknownNameError, match="krylov"):
        entries(family="krylof")
