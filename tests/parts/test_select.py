"""Which parameters a rule takes."""

from __future__ import annotations

import pytest
import torch

from precond.optim import Matrices
from precond.recipes.routes import NOT_HIDDEN


@pytest.mark.parametrize(
    ("name", "shape", "taken"),
    [
        ("blocks.0.attention.weight", (4, 4), True),
        ("blocks.0.attention.heads.1.weight", (4, 4), True),
        ("conv.weight", (4, 3, 3, 3), True),
        ("", (4, 4), True),
        ("blocks.0.attention.bias", (4,), False),
        ("scale", (), False),
        ("tok_embedding.weight", (100, 4), False),
        ("Embed.weight", (100, 4), False),
        ("lm_head.weight", (100, 4), False),
        ("head.weight", (10, 4), False),
        ("model.head.weight", (10, 4), False),
    ],
)
def test_hidden_matrices(name, shape, taken):
    assert Matrices(exclude=NOT_HIDDEN).selects(name, torch.empty(shape)) is taken
