"""Laws of form: what every part of every kind must look like."""

from __future__ import annotations

import dataclasses

import pytest

from tests.laws.discover import NOUNS, classes, examples, instances, name

EVERY_CLASS = [cls for noun in NOUNS for cls in classes(noun)]


@pytest.mark.parametrize("noun", NOUNS, ids=name)
def test_parts_are_found(noun: type) -> None:
    assert classes(noun), f"no {noun.__name__} was discovered: the laws would hold for nothing"
    assert instances(noun)


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=name)
def test_is_a_frozen_dataclass(cls: type) -> None:
    assert "__dataclass_fields__" in vars(cls), f"{cls.__name__} must itself be a dataclass"
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} must be frozen: @dataclasses.dataclass(frozen=True)"


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=name)
def test_has_a_docstring_of_its_own(cls: type) -> None:
    text = vars(cls).get("__doc__") or ""
    assert text.strip(), f"{cls.__name__} needs a docstring"
    made_up = text.startswith(f"{cls.__name__}(") and text.endswith(")")
    assert not made_up, f"{cls.__name__} has only the docstring that dataclass made up"


@pytest.mark.parametrize("cls", EVERY_CLASS, ids=name)
def test_can_be_tried(cls: type) -> None:
    found = examples(cls)
    assert found, (
        f"{cls.__name__} cannot be built without arguments: give every field a default, or add an example to "
        "tests/laws/examples.py"
    )
    assert all(type(example) is cls for example in found)


@pytest.mark.parametrize("part", [part for noun in NOUNS for part in instances(noun)], ids=name)
def test_is_a_value(part: object) -> None:
    """Two parts built alike are equal, so that methods can be compared, printed and built again."""
    again = dataclasses.replace(part)
    assert again == part
    assert repr(again) == repr(part)
