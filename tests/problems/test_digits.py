import re

import numpy as np
import pytest
import torch
from torch import nn

from precond.core import BadInputError
from precond.problems import digits, load, supervised

CPU = torch.device("cpu")


def idx(array: np.ndarray) -> bytes:
    """Write the idx format by hand."""
    head = bytes([0, 0, 8, array.ndim])
    return head + b"".join(int(size).to_bytes(4, "big") for size in array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(write, tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = random.integers(0, 3, count)
        images = random.integers(0, 40, (count, 5, 4)) + 70 * labels[:, None, None]
        write(f"{part}-images-idx3-ubyte.gz", idx(images))
        write(f"{part}-labels-idx1-ubyte", idx(labels))
    return tmp_path


def train(instance, steps, lr, make=torch.optim.AdamW):
    optimizer = make(instance.model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        instance.loss(step).backward()
        optimizer.step()


def test_adamw_meets_the_target_within_the_horizon():
    problem = digits()
    instance = problem.build(0, CPU)
    before = instance.evaluate()
    train(instance, problem.horizon.steps, 1e-2)
    assert instance.evaluate() <= problem.target < before / 10


def test_a_seed_decides_weights_and_batches_and_nothing_else_does():
    torch.manual_seed(1)
    one = digits().build(3, CPU)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "building a problem must leave the global generator alone"
    two, other = digits().build(3, CPU), digits().build(4, CPU)
    first = [one.loss(k).item() for k in (0, 1, 25, 50)]
    assert [two.loss(k).item() for k in (50, 25, 1, 0)] == first[::-1], "the batch of a step depends on the step alone"
    assert [other.loss(k).item() for k in (0, 1, 25, 50)] != first
    assert one.evaluate() == two.evaluate() != other.evaluate()


def test_an_epoch_shows_every_sample_once_and_the_next_in_another_order():
    x = torch.arange(10.0)[:, None]
    seen = []

    def loss(prediction, target):
        seen.append(target.tolist())
        return prediction.mean()

    problem = supervised("count", lambda: nn.Linear(1, 1), (x, x[:, 0]), (x, x[:, 0]), loss=loss, batch=3)
    instance = problem.build(0, CPU)
    for step in range(6):
        instance.loss(step)
    epochs = [[sample for batch in part for sample in batch] for part in (seen[:3], seen[3:])]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert problem.horizon.steps == 15


def test_the_held_out_loss_is_the_mean_over_all_samples():
    x = torch.randn(5000, 3)
    y = (x.sum(1) > 0).long()
    instance = supervised("mean", lambda: nn.Linear(3, 2), (x, y), (x, y)).build(0, CPU)
    with torch.no_grad():
        whole = nn.functional.cross_entropy(instance.model(x), y)
    assert instance.evaluate() == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize(("inputs", "targets"), [(0, 0), (3, 4)])
def test_samples_that_do_not_pair_are_refused(inputs, targets):
    good = torch.zeros(2, 1), torch.zeros(2)
    with pytest.raises(BadInputError, match=f"{inputs} training inputs and {targets} targets"):
        supervised("bad", lambda: nn.Linear(1, 1), (torch.zeros(inputs, 1), torch.zeros(targets)), good)


def test_idx_files_load_by_folder_and_by_file(folder):
    problem = load(f"digits:{folder}")
    assert "60 for training, 20 held out" in problem.description
    assert "perceptron 20-64-64-3" in problem.description
    assert load(str(folder)).description == problem.description
    assert load(str(folder / "train-images-idx3-ubyte.gz")).description == problem.description
    instance = problem.build(0, CPU)
    before = instance.evaluate()
    train(instance, 60, 1e-2)
    assert instance.evaluate() < before / 5


def test_damaged_idx_files_are_explained(folder, write, refused, tmp_path):
    name = "train-labels-idx1-ubyte"
    good = (folder / name).read_bytes()
    for content, says in [
        (b"\1\2\3\4rest", "not an idx file .it starts with 01 02 03 04"),
        (good[:-5], "63 bytes, but its header .60. needs 68"),
        (good + b"x", "69 bytes, but its header .60. needs 68"),
        (good[:6], "header cut off"),
        (idx(np.zeros(10)), "10 labels for 60 images"),
        (idx(np.zeros((60, 1))), "2 dimensions, labels have 1"),
    ]:
        write(name, content)
        message = refused(f"digits:{folder}")
        assert message.startswith(str(folder / name))
        assert re.search(says, message), message
    (folder / name).unlink()
    assert "holds no train labels; give a folder with train-images-idx3-ubyte" in refused(f"digits:{folder}")
    assert "no such folder" in refused(f"digits:{tmp_path / 'absent'}")
