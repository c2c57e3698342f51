"""Two and four gloo processes train as one does; see `tests.distributors.checks` for what is checked in each."""

from __future__ import annotations

from pathlib import Path

from tests.distributors.crew import failures


def test_processes_train_as_one_does(tmp_path: Path) -> None:
    two = "trajectories,equal_gradients,one_owner,bytes_are_counted,coupled_decay,joint_clipping,look_back"
    two += ",another_batch,page_runs"
    four = "trajectories,one_owner,bytes_are_counted,boxes,hybrid,tensor_parallel"
    assert failures([f"2:{two}", f"4:{four}"], tmp_path) == []


def test_every_recipe_trains_sharded_as_whole(tmp_path: Path) -> None:
    assert failures(["2:every_recipe"], tmp_path) == []


def test_missing_and_broken_gradients_are_agreed_on(tmp_path: Path) -> None:
    checks = "missing_gradients,non_finite_gradients"
    assert failures([f"2:{checks},copies_stay_equal", f"4:{checks}"], tmp_path) == []


def test_checkpoints_load_into_other_numbers_of_processes(tmp_path: Path) -> None:
    crews = ["1:save", "2:save,load_two,load_one,parts_say_where_they_belong"]
    crews += ["4:load_two,load_one,load_plain,save", "2:load_four", "1:load_two,load_four"]
    assert failures(crews, tmp_path) == []
