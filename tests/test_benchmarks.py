"""The programs that measure do the work they say they do."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import precond
from precond.optim import Optimizer
from precond.problems.stdlib_lm import stdlib_lm
from precond.recipes.matrix import lean_soap, shampoo, soap
from precond.recipes.registry import all_recipes

FOLDER = Path(__file__).parents[1] / "benchmarks"


sys.path.append(str(FOLDER))  # where the programs find what they share


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their own module
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


def test_a_section_tells_the_command_that_makes_its_table() -> None:
    sections = load("sections").Sections("program.py", "prefix")
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1])
    parser.add_argument("--best-rivals", action="store_true")
    parser.add_argument("--matrices", type=Path)
    words = ["--sizes", "2", "3", "--best-rivals", "--matrices", "/somewhere"]
    command = sections.command(parser, parser.parse_args(words), "one")
    assert command == "python benchmarks/program.py one --sizes 2 3 --best-rivals --matrices DIR --write"
    assert sections.command(parser, parser.parse_args([]), "one") == "python benchmarks/program.py one --write"


def test_a_table_goes_between_its_marks(tmp_path: Path) -> None:
    pages = load("pages")
    page = tmp_path / "page.md"
    page.write_text((FOLDER.parent / "docs" / "benchmarks.md").read_text())
    begin, end = pages.marks("slab on cuda", "slab.py")
    pages.write("NEW TABLE", "slab on cuda", "slab.py", page)
    text = page.read_text()
    assert text.count("NEW TABLE") == 1
    assert text.index(begin) < text.index("NEW TABLE") < text.index(end)
    pages.write("NEWER TABLE", "slab on cuda", "slab.py", page)
    assert "NEW TABLE" not in page.read_text()


def test_a_table_without_a_place_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="no place for this table"):
        load("pages").write("TABLE", "slab on cuda", "slab.py", page)
    assert page.read_text() == "nothing"


@pytest.mark.parametrize("program", ["optim_step", "slab", "train_lm"])
def test_every_table_has_a_place_for_each_device(program: str) -> None:
    module, pages = load(program), load("pages")
    for device in ("cpu", "cuda"):
        begin, end = pages.marks(module.NAME.format(device=device), module.PROGRAM)
        text = pages.PAGE.read_text()
        assert 0 <= text.find(begin) < text.find(end)


def test_the_training_table_compares_with_adamw(tmp_path: Path) -> None:
    program = load("train_lm")
    result = precond.race.run("digits", ["adamw", "sgd"], trials=1, seeds=2, budget="5steps", out=tmp_path / "race")
    rows = {line.split("|")[1].strip(): line.split("|") for line in program.text(result).splitlines() if "|" in line}
    finals = {row.contestant: row.final.mean for row in result.problems[0].standings}
    assert rows["adamw"][3].strip() == "+0.0 %"
    assert float(rows["sgd"][3].replace("%", "")) == pytest.approx(
        100 * (finals["sgd"] / finals["adamw"] - 1), abs=0.06
    )
    assert f"{finals['sgd']:.4f}" in rows["sgd"][2]


def test_steps_are_measured_and_what_is_missing_is_listed() -> None:
    program = load("optim_step")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    before = [p.clone() for p in model.parameters()]
    chosen = [c for c in program.CONTENDERS if c.name.startswith("torch.optim.AdamW") or c.name.startswith("precond")]
    absent = load("optim_contenders").theirs("no_such_package", "Best")
    text = program.measure([*chosen, absent], "cpu", 1, 2, model)
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "skipped: ModuleNotFoundError" in rows[absent.name]
    for contender in chosen:
        assert "skipped" not in rows[contender.name]
        assert float(rows[contender.name].split("|")[2]) > 0
    assert float(rows[program.BASELINE].split("|")[2]) == 1.0
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_round_of_steps_is_one_refresh_interval_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load("optim_step")
    model, rounds = nn.Linear(4, 3), {}
    monkeypatch.setattr(program.Running, "row", lambda self, _: str(rounds.setdefault(self.name, self.rounds)))
    rare = load("optim_contenders").ours("SOAP", ", rarely", every=24)
    program.measure([program.CONTENDERS[0], rare], "cpu", 1, 2, model)
    assert {name: [len(interval) for interval in taken] for name, taken in rounds.items()} == {
        program.BASELINE: [10, 10],
        rare.name: [24, 24],
    }


def test_the_interval_of_lean_steps_is_that_of_the_recipe_or_in_the_name() -> None:
    program = load("optim_step")
    plain, rare = [contender for contender in program.CONTENDERS if "LeanSOAP" in contender.name]
    assert plain.every == lean_soap().cadence.every
    assert f"every {rare.every} steps" in rare.name


def test_every_contender_in_steps_trains_its_parameters() -> None:
    program = load("optim_step")
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    gradients = [torch.randn_like(p) for p in model.parameters()]
    for contender in program.CONTENDERS:
        if contender.name.startswith("precond"):
            running = program.Running(contender, model, "cpu")
            for step in range(100):  # one that moves a few entries at a time takes more than three
                running.step(gradients, program.clock_of("cpu", 1))
                moved = [not torch.equal(p, q) for p, q in zip(running.params, model.parameters(), strict=True)]
                if step >= 2 and all(moved):
                    break
            assert all(moved), contender.name


def test_lean_variants_train_and_runs_are_kept(tmp_path: Path) -> None:
    program = load("lean")
    setting = program.Setting(width=16, depth=1, context=8, batch=2, steps=2)
    runs = [program.train(variant, setting, 0) for variant in program.VARIANTS]
    record = tmp_path / "record.jsonl"
    record.write_text("".join(json.dumps(dataclasses.asdict(run)) + "\n" for run in [*runs, *runs[:1]]))
    assert program.read(record) == runs
    text = program.table(runs)
    assert str(setting) in text
    assert all(f"| {variant} |" in text for variant in program.VARIANTS)
    assert runs[0].loss > 0


def test_lean_soap_is_the_variant_that_the_page_says() -> None:
    program = load("lean_variants")
    assert program.VARIANTS[program.LEAN]() == lean_soap()


def test_parts_on_one_batch_take_the_steps_of_the_optimizer() -> None:
    program = load("scaling")
    for recipe in (soap(), shampoo()):
        cadence = dataclasses.replace(recipe.cadence, every=program.EVERY, stagger=False)
        method = dataclasses.replace(recipe, cadence=cadence)
        start = torch.randn(3, 4, 4, dtype=torch.float64)
        params = [nn.Parameter(p.clone()) for p in start]
        optimizer = Optimizer(params, method, lr=1e-3, weight_decay=0.01)
        one = program.Stacked(method, start.clone())
        for step in range(2 * program.EVERY + 2):
            gradient = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
            for param, g in zip(params, gradient, strict=True):
                param.grad = g
            optimizer.step()
            one.step(gradient)
        torch.testing.assert_close(torch.stack([p.detach() for p in params]), one.weights)


def test_the_floor_of_soap_is_counted() -> None:
    program = load("scaling")
    m, n = 3, 5
    products = 4 * m * n * (m + n)
    grams = m * n * (m + n)
    turns = (2 + 8 / 3) * (m**3 + n**3) / 10
    assert program.soap_flops([(m, n), (7,)], 10) == pytest.approx(products + grams + turns)


def test_settings_of_state_are_compared_with_full_state() -> None:
    program = load("memory")
    problem = stdlib_lm(width=8, depth=1, heads=2, context=8, batch=2)
    text = program.measure("LeanSOAP", 1, 1, steps=2, problem=problem, model=nn.Linear(80, 80))
    rows = {line.split("|")[2].strip(): line.split("|") for line in text.splitlines() if line.startswith("| LeanSOAP")}
    assert set(rows) == set(program.STATES)
    assert [float(cell) for cell in rows["full"][6:9]] == [1.0, 1.0, 1.0]
    assert float(rows["4-bit"][4]) < float(rows["8-bit"][4]) < float(rows["compact"][4]) < float(rows["full"][4])
    assert all(0.5 < float(row[7]) < 2.0 for row in rows.values())


def test_headlines_belong_to_recipes() -> None:
    headlines = load("headlines")
    assert set(headlines.HEADLINES) <= set(all_recipes())
    assert all(measure.__doc__ for measure in headlines.HEADLINES.values())


def test_a_headline_reports_what_it_counted() -> None:
    text, values = load("headlines").least_squares()["lsqr"]
    assert values["error"] < 1e-6
    assert f"{values['iterations']} iterations" in text


def test_least_squares_are_measured_with_their_backward_errors() -> None:
    program = load("linear_tall")
    program.CONDITIONS = (1e8,)
    text = program.tall(argparse.Namespace(rows=3000, columns=12, rounds=1))
    rows = {line.split("|")[2].strip(): line.split("|") for line in text.splitlines() if line.startswith("| 1e")}
    assert rows.keys() == {contender.name for contender in program.CONTENDERS}
    assert float(rows[program.BASELINE][3]) == 1.0
    assert all(float(row[6]) > 0 for row in rows.values())
    assert float(rows["precond.lstsq"][6]) < 10
    a, b = program.problem(300, 5, 10.0)
    off = program.backward_error(a, b, torch.linalg.lstsq(a, b[:, None]).solution[:, 0] + 1e-6, torch.linalg.qr(a).R)
    assert 1e-8 * 2**53 < off < 1e-6 * 2**53


def test_every_section_on_linear_systems_has_a_place_and_says_what_it_is() -> None:
    program, pages = load("linear"), load("pages")
    text = pages.PAGE.read_text()
    for name, measure in program.SECTIONS.known.items():
        begin, end = pages.marks(program.SECTIONS.name(name), program.SECTIONS.program)
        assert 0 <= text.find(begin) < text.find(end)
        assert measure.__doc__


def test_batches_columns_and_gradients_are_measured() -> None:
    program = load("linear_many")
    options = argparse.Namespace(members=3, order=40, rounds=1, side=8)
    rows = [line.split("|") for line in program.batches(options).splitlines() if "precond" in line]
    assert len(rows) == 6
    assert all(float(row[4]) <= 1e-8 for row in rows)
    rows = [line.split("|") for line in program.gradients(options).splitlines() if "n=8" in line]
    assert len(rows) == 2
    assert all(float(value) < 1e-5 for row in rows for value in row[4:6])


def test_sequences_are_measured_with_residuals_recomputed() -> None:
    program = load("linear_sequences")
    options = argparse.Namespace(side=8, systems=3, rounds=1, matrices=None, best_rivals=False)
    rows = [line.split("|") for line in program.sequence(options).splitlines() if "SolveSequence" in line]
    assert len(rows) == len(program.FAMILIES)
    assert all(float(row[5]) <= 1e-8 and float(row[3]) > 0 for row in rows)
    wrong = program.in_sequence(list(program.drifting(8, 2)), lambda A, b: 0 * b)
    assert wrong.worst == 1.0


def test_a_section_without_its_data_is_skipped_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("sections")
    sections = module.Sections("program.py", "name")

    @sections.section
    def one(options: argparse.Namespace) -> str:
        """Needs a folder."""
        raise module.NoData("one needs --folder DIR")

    @sections.section
    def two(options: argparse.Namespace) -> str:
        """Needs nothing."""
        return "what was measured"

    monkeypatch.setattr("sys.argv", ["program.py"])
    sections.run(argparse.ArgumentParser())
    said = capsys.readouterr().out
    assert "one: skipped; one needs --folder DIR" in said
    assert "what was measured" in said
    monkeypatch.setattr("sys.argv", ["program.py", "one"])
    with pytest.raises(SystemExit):
        sections.run(argparse.ArgumentParser())
    assert "one needs --folder DIR" in capsys.readouterr().err
