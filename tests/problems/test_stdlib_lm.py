import itertools
import math

import pytest
import torch

from precond.problems import load, stdlib_lm
from precond.problems.gpt import GPT
from precond.problems.stdlib_lm import pair_loss, standard_library

CPU = torch.device("cpu")
TEXT = "".join(f"line {i}: the quick brown fox jumps over {i * i % 7} lazy dogs.\n" for i in range(200))
SMALL = ",width=16,depth=1,heads=2,context=16,batch=8"


def test_the_standard_library_is_text_in_one_order():
    train, held_out = standard_library()
    assert len(train) > 5 * len(held_out) > 0
    assert 1_000_000 < len(train) + len(held_out) <= 8_000_000
    assert held_out[:2000] not in train
    again = standard_library.__wrapped__()
    assert again == (train, held_out)
    assert b"def " in held_out
    assert b"import " in train


def test_parameter_names_say_what_they_are():
    names = {name for name, _ in stdlib_lm().build(0, CPU).model.named_parameters()}
    assert {"embedding.weight", "position.weight", "head.weight", "blocks.0.attention.qkv.weight"} <= names
    assert {"blocks.1.attention.out.weight", "blocks.0.mlp.up.weight", "blocks.1.mlp.down.weight"} <= names


def test_no_position_sees_the_future_and_second_derivatives_exist():
    torch.manual_seed(0)
    model = GPT(width=8, depth=2, heads=2, context=6)
    text = torch.randint(256, (1, 6))
    changed = text.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 256
    before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    torch.testing.assert_close(model(text[:, :3]), before[:, :3], msg="a shorter text is a prefix")
    weight = model.blocks[0].attention.qkv.weight
    (gradient,) = torch.autograd.grad(before.logsumexp(-1).sum(), weight, create_graph=True)
    (product,) = torch.autograd.grad(gradient, weight, torch.ones_like(weight))
    assert product.abs().max() > 0


@pytest.mark.parametrize("name", ["book.txt", "book.txt.gz"])
def test_a_text_is_learned_and_its_tail_held_out(write, name):
    problem = load(f"stdlib-lm:{write(name, TEXT)}{SMALL}")
    instance = problem.build(0, CPU)
    before = instance.evaluate()
    assert 5 < before < 7, "nothing is known at first: about log 256"
    optimizer = torch.optim.AdamW(instance.model.parameters(), lr=1e-2)
    for step in range(150):
        optimizer.zero_grad()
        instance.loss(step).backward()
        optimizer.step()
    assert instance.evaluate() <= problem.target < before / 3
    assert problem.metric.unit == "nats per byte"


def test_the_target_is_the_loss_of_a_table_of_pairs():
    train, held_out = b"abacab" * 3, b"abcz"
    pairs = list(itertools.pairwise(train))
    losses = []
    for a, b in itertools.pairwise(held_out):
        from_a = sum(first == a for first, _ in pairs)
        losses.append(-math.log((pairs.count((a, b)) + 1) / (from_a + 256)))
    assert pair_loss(train, held_out) == pytest.approx(sum(losses) / len(losses))


def test_a_seed_decides_weights_and_batches(write):
    problem = load(f"stdlib-lm:{write('book.txt', TEXT)}{SMALL}")
    one, two, other = (problem.build(seed, CPU) for seed in (5, 5, 6))
    assert [one.loss(k).item() for k in (0, 7)] == [two.loss(k).item() for k in (7, 0)][::-1]
    assert one.loss(0).item() != one.loss(1).item() != other.loss(1).item()
    assert one.evaluate() == two.evaluate() != other.evaluate()


def test_texts_that_cannot_be_used(write, refused):
    short = write("short.txt", "x" * 500)
    assert f"{short}: too short (500 bytes); give at least 660 bytes" in refused(f"stdlib-lm:{short}")
    assert load(f"stdlib-lm:{short},context=40").target > 0
    binary = write("noise", b"text\nmore\0")
    assert f"{binary}:2: binary data" in refused(f"stdlib-lm:{binary}")
    for option in ("depth=0", "batch=-1", "width=0"):
        assert "must be at least 1" in refused(f"stdlib-lm:{option}")
