"""What a race measures, refuses and survives."""

import math
import sqlite3
import subprocess

import pytest

import precond
from precond.core import BadInputError, IncompatibleError, UnknownNameError
from precond.race import harness
from precond.race.ledger import ledger as ledgers
from precond.race.ledger.database import LedgerError
from precond.race.ledger.ledger import open_ledger
from precond.race.results.result import RaceResult
from tests.race.conftest import outcome, toy

pytestmark = pytest.mark.usefixtures("without_report")


def test_a_race_from_the_command_line(race, tmp_path):
    done = race(
        toy("quick"), "--methods", "sgd,adamw,torch.optim.AdamW", "--trials", "2", "--seeds", "3", "--jobs", "1"
    )
    assert done.returncode == 0, done.stderr
    assert "report: race-report/report.html" in done.stdout
    result = RaceResult.read(tmp_path / "race-report" / "results.json")
    assert result.complete
    assert result.command.startswith("precond race ")
    assert (tmp_path / "race-report" / "report.html").stat().st_size > 10_000
    (problem,) = result.problems
    assert [row.trials for row in problem.standings] == [2, 2, 2]
    assert [row.seeds for row in problem.standings] == [3, 3, 3]
    finals = [row.final.mean for row in problem.standings]
    assert finals == sorted(finals)
    for run in problem.runs:
        assert run.steps == run.work["gradients"] == 10
        assert run.curve["step"] == [0, 2, 4, 6, 8, 10]
        assert 0 < run.optimizer_share < 1
        assert run.final == pytest.approx(run.curve["metric"][-1], rel=1e-5)
    assert {run.seed for run in problem.runs if run.stage == "final"} == {1000, 1001, 1002}
    assert {run.seed for run in problem.runs if run.stage == "tuning"} == {0}
    bytes_of = {row.contestant: row.state_bytes_per_parameter for row in problem.standings}
    assert 8 <= bytes_of["adamw"] < 16  # two averages, and a few counters for each tensor
    assert bytes_of["torch.optim.AdamW"] == pytest.approx(8 + 2 * 4 / 18)


def test_the_tuned_setting_is_the_best_trial_and_is_rerun(tmp_path):
    result = precond.race.run(toy("quick"), ["torch.optim.SGD"], trials=4, seeds=2, out=tmp_path / "race")
    runs = result.problems[0].runs
    best = min((run for run in runs if run.stage == "tuning"), key=lambda run: run.score)
    assert all(run.settings == best.settings for run in runs if run.stage == "final")
    frame = result.table()
    assert list(frame.contestant) == ["torch.optim.SGD"]
    assert frame.final_low[0] < frame.final[0] < frame.final_high[0]


def test_several_processes_get_the_same_result(tmp_path):
    options = {"methods": ["adamw", "soap"], "trials": 2, "seeds": 2}
    alone = precond.race.run(toy("quick"), **options, out=tmp_path / "alone")
    both = precond.race.run(toy("quick"), **options, out=tmp_path / "both", jobs=2)
    assert outcome(alone) == outcome(both)
    assert [log.read_text() for log in (tmp_path / "both").glob("worker-*.log")] == []
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in listed  # no process is left behind


def test_solvers_stop_at_the_target_and_count_their_work(tmp_path):
    names = ["lbfgs", "newton-cg", "scipy.L-BFGS-B"]
    result = precond.race.run(toy("valley"), names, trials=2, seeds=2, out=tmp_path / "race")
    rows = {row.contestant: row for row in result.problems[0].standings}
    assert {row.solved for row in rows.values()} == {2}
    assert rows["newton-cg"].work["hvps"] > 0
    assert rows["scipy.L-BFGS-B"].work["gradients"] > 0
    assert rows["scipy.L-BFGS-B"].trials == 0  # no stated space, nothing to tune
    for run in result.problems[0].runs:
        assert run.final <= 1e-6
        work = run.work
        assert run.score == work["gradients"] + work["losses"] + 2 * work["hvps"]


def test_linear_solvers_race_beside_scipy(tmp_path):
    names = ["cg", "gmres", "gmres+jacobi", "scipy.gmres", "minres", "jacobi"]
    result = precond.race.run(toy("lopsided"), names, trials=2, seeds=2, out=tmp_path / "race")
    (problem,) = result.problems
    assert set(problem.skipped) == {"cg", "minres", "jacobi"}
    assert "gmres" in problem.skipped["cg"]
    assert "+jacobi" in problem.skipped["jacobi"]  # a preconditioner alone: write it as a pair
    for run in problem.runs:
        assert run.steps_to_target is not None
        assert run.work["matvecs"] > 0
        if not run.contestant.startswith("scipy"):  # what the harness looks at is not charged to the method
            assert run.work["applies"] <= run.steps + 3
            assert run.work["matvecs"] <= run.steps + 3
        assert run.final <= 1e-8
        start = run.curve["metric"][0]
        assert start == 1.0  # relative residual at x = 0, recomputed by the harness
        assert run.curve["gradients"] == sorted(run.curve["gradients"])


def test_least_squares_race(tmp_path):
    result = precond.race.run(toy("tall"), ["lsqr", "scipy.lsqr", "cg"], trials=1, seeds=2, out=tmp_path / "race")
    assert {row.contestant: row.solved for row in result.problems[0].standings} == {"lsqr": 2, "scipy.lsqr": 2}
    assert "least-squares" in result.problems[0].skipped["cg"]


def test_a_run_that_diverges_has_failed_and_the_race_goes_on(tmp_path):
    result = precond.race.run(toy("poisoned"), ["sgd"], trials=2, seeds=2, out=tmp_path / "race")
    assert result.complete
    runs = result.problems[0].runs
    assert len(runs) == 4
    assert {run.state for run in runs} == {"failed"}
    assert {run.reason for run in runs} == {"the loss became nan at step 5"}
    assert {run.score for run in runs} == {None}
    assert result.problems[0].standings[0].failed_seeds == 2
    RaceResult.read(tmp_path / "race" / "results.json")


def test_an_exception_is_one_line(tmp_path):
    result = precond.race.run(toy("broken"), ["sgd"], trials=0, seeds=2, out=tmp_path / "race")
    assert {run.reason for run in result.problems[0].runs} == {"RuntimeError: no such batch"}


def test_who_cannot_run_is_refused_before_anything_runs(tmp_path):
    result = precond.race.run(toy("quick"), ["lbfgs", "adamw", "scipy.BFGS"], trials=1, seeds=1, out=tmp_path / "race")
    assert set(result.problems[0].skipped) == {"lbfgs", "scipy.BFGS"}
    assert "smooth" in result.problems[0].skipped["lbfgs"]
    assert "adamw" in result.problems[0].skipped["lbfgs"]  # names what would work
    assert [row.contestant for row in result.problems[0].standings] == ["adamw"]


def test_nobody_left_is_an_error_and_leaves_no_folder(tmp_path):
    with pytest.raises(IncompatibleError, match="nobody can race on quick: lbfgs: "):
        precond.race.run(toy("quick"), ["lbfgs"], out=tmp_path / "race")
    assert not (tmp_path / "race").exists()


@pytest.mark.parametrize(("name", "near"), [("adamv", "adamw"), ("torch.optim.AdmW", "torch.optim.AdamW")])
def test_unknown_names_list_the_nearest(tmp_path, name, near):
    with pytest.raises(UnknownNameError, match=rf"unknown method '{name}'.*{near}"):
        precond.race.run(toy("quick"), [name], out=tmp_path / "race")


def test_an_existing_race_is_not_touched(cli, tmp_path):
    precond.race.run(toy("quick"), ["sgd"], trials=1, seeds=1, out=tmp_path / "race-report")
    before = {path.name: path.read_bytes() for path in (tmp_path / "race-report").iterdir()}
    code, said = cli(toy("quick"))
    assert code == 2
    assert "--resume" in said
    assert "--out" in said
    for words in (["--budget", "20steps"], ["--trials", "0"], ["--device", "cuda"]):
        code, said = cli(toy("quick"), "--resume", *words)
        assert code == 2, said
        assert "race into another --out" in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "race-report").iterdir()} == before


def test_a_newer_race_is_not_touched(cli, tmp_path):
    precond.race.run(toy("quick"), ["sgd"], trials=1, seeds=1, out=tmp_path / "race-report")
    results, path = (tmp_path / "race-report" / name for name in ("results.json", "race.sqlite3"))
    with sqlite3.connect(path) as connection:
        changed = connection.execute("update study_user_attributes set value_json = '99' where key = 'schema'")
        assert changed.rowcount == 1
    connection.close()
    text = results.read_text()
    for whole in (text, text.replace('"schema": 1', '"schema": 99')):
        results.write_text(whole)
        before = path.read_bytes()
        code, said = cli(toy("quick"), "--resume")
        assert code == 2
        assert "schema 99" in said
        assert "untouched" in said
        assert path.read_bytes() == before
        assert results.read_text() == whole


def test_a_folder_that_cannot_be_used_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "race.sqlite3").write_text("this is not a database, but it is somebody's file")
    for words in (["--out", "file"], ["--out", "file/below"], ["--out", "odd", "--resume"]):
        code, said = cli(toy("quick"), "--methods", "sgd", *words)
        assert code == 2, said
        assert said.count("error:") == 1
        assert "another --out" in said
    assert (tmp_path / "file").read_text() == "in the way"
    assert (tmp_path / "odd" / "race.sqlite3").read_text().startswith("this is not a database")


def test_a_full_disk_ends_the_race_and_keeps_what_is_done(tmp_path, monkeypatch):
    """The database may not grow beyond what it holds after two runs: SQLite then reports a full disk."""
    finished = []
    original = ledgers.Ledger.finish

    def finish(self, claim, run):
        if len(finished) == 2:
            storage = self.storage._backend
            with storage.engine.connect() as connection:
                pages = connection.exec_driver_sql("pragma page_count").scalar()

            import sqlalchemy.event

            @sqlalchemy.event.listens_for(storage.engine, "begin")
            def limit(connection):
                connection.exec_driver_sql(f"pragma max_page_count = {pages}")

            run.curve["metric"] = [0.1] * 100_000
        original(self, claim, run)
        finished.append(run)

    monkeypatch.setattr(ledgers.Ledger, "finish", finish)
    with pytest.raises(LedgerError, match=r"disk is full; free some space and go on with --resume"):
        precond.race.run(toy("quick"), ["sgd"], trials=3, seeds=1, out=tmp_path / "race")
    monkeypatch.undo()
    resumed = precond.race.run(out=tmp_path / "race", resume=True)
    whole = precond.race.run(toy("quick"), ["sgd"], trials=3, seeds=1, out=tmp_path / "whole")
    assert outcome(resumed) == outcome(whole)
    seconds = {(run.stage, run.slot): run.seconds for run in resumed.problems[0].runs}
    assert all(seconds[run.stage, run.slot] == run.seconds for run in finished[:2])


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def full(result, out):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("precond.race.report.write_report", full)
    with pytest.raises(LedgerError, match="No space left on device; the finished runs are kept"):
        precond.race.run(toy("quick"), ["sgd"], trials=1, seeds=1, out=tmp_path / "race")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "ten"], "500steps"),
        (["--trials", "-1"], "trials"),
        (["--seeds", "0"], "seeds"),
        (["--jobs", "0"], "jobs"),
        (["--device", "tpu"], "write cpu, cuda"),
        (["--methods", ","], "names"),
    ],
)
def test_bad_options_name_what_would_do(cli, words, said, tmp_path):
    code, output = cli(toy("quick"), "--out", tmp_path / "race", *words)
    assert code == 2
    assert said in output
    assert not (tmp_path / "race").exists()


def test_a_problem_object_races_in_this_process_only(tmp_path):
    problem = precond.problems.load(toy("quick"))
    result = precond.race.run(problem, ["sgd"], trials=1, seeds=1, out=tmp_path / "race")
    assert result.problems[0].name == "quick"
    with pytest.raises(BadInputError, match=r"file\.py:function"):
        precond.race.run(problem, ["sgd"], jobs=2, out=tmp_path / "other")


def test_lists_of_problems_keep_commas_of_options():
    assert harness.listed_problems("digits,poisson2d:n=8,m=4,toys.py:f") == ("digits", "poisson2d:n=8,m=4", "toys.py:f")


def test_a_budget_in_seconds_ends_a_run(tmp_path):
    result = precond.race.run(toy("slow"), ["sgd"], trials=0, seeds=1, budget="0.2s", out=tmp_path / "race")
    (run,) = result.problems[0].runs
    assert run.state == "complete"
    assert 1 < run.steps < 40
    assert run.seconds >= 0.2


def test_the_ledger_opens_in_optuna(tmp_path):
    """The store is an Optuna database like any other, parameters included."""
    import optuna

    precond.race.run(toy("quick"), ["torch.optim.Adam"], trials=3, seeds=1, out=tmp_path / "race")
    path = f"sqlite:///{tmp_path}/race/race.sqlite3"
    study = optuna.load_study(study_name=f"{toy('quick')} | torch.optim.Adam | tuning", storage=path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert study.trials[0].params == {"lr": 1e-3}
    assert math.isfinite(study.best_value)
    assert isinstance(open_ledger(tmp_path / "race" / "race.sqlite3").header(), dict)
