"""``precond solve`` as a user runs it."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import precond
from precond.cli import main
from precond.core import Status
from precond.solving.files import write_vectors
from precond.solving.picture import draw_convergence
from tests.papers.linear_toys import poisson

A = poisson(5)
rng = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with matrices, in which the command runs."""
    scipy.io.mmwrite(tmp_path / "A.mtx", A, symmetry="symmetric")
    (tmp_path / "A.mtx.gz").write_bytes(gzip.compress((tmp_path / "A.mtx").read_bytes()))
    scipy.io.mmwrite(tmp_path / "tall.mtx", scipy.sparse.coo_array(rng.standard_normal((9, 4))))
    cycle = scipy.sparse.coo_array(np.roll(np.eye(90), 1, axis=0))
    scipy.io.mmwrite(tmp_path / "cycle.mtx", cycle)
    scipy.io.mmwrite(tmp_path / "b.mtx", rng.standard_normal((25, 1)))
    scipy.io.mmwrite(tmp_path / "B.mtx", rng.standard_normal((25, 2)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    return tmp_path


@pytest.fixture
def solve(folder, capsys):
    """Return a function that runs ``precond solve`` and gives its exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["solve", *words])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def rows(out: str) -> dict[str, str]:
    """Return the table as a dictionary."""
    pairs = [line.strip().split("  ", 1) for line in out.splitlines() if "  " in line.strip()]
    return {name: value.strip() for name, value in pairs}


def read(path: Path) -> np.ndarray:
    return np.asarray(scipy.io.mmread(path))


def test_says_what_it_did_why_and_what_is_certified(solve):
    code, out, err = solve("A.mtx.gz", "--rtol", "1e-10")
    shown = rows(out)
    assert (code, err) == (0, "")
    assert shown["matrix"] == "A.mtx.gz, 25 x 25, 105 entries"
    assert shown["method"] == "cg + ic0"
    assert "symmetric" in shown["chosen because"]
    assert shown["certified"].startswith("relative residual ||b - Ax|| / ||b|| = ")
    assert "(asked 1.00e-10)" in shown["certified"]
    assert 0 <= float(shown["backward error"]) < 1e-10
    assert int(shown["iterations"]) > 0
    assert int(shown["products with A"]) >= int(shown["iterations"])
    assert shown["chosen because"].count("(") == shown["chosen because"].count(")")
    assert "iterate " in shown["seconds"]
    assert "relative residual" not in shown  # said once, as what is certified


def test_a_right_hand_side_may_lie_in_a_row(solve, folder):
    scipy.io.mmwrite(folder / "row.mtx", read(folder / "b.mtx").T)
    assert solve("A.mtx", "row.mtx", "--out", "x.mtx")[0] == 0
    np.testing.assert_allclose(A @ read(folder / "x.mtx"), read(folder / "b.mtx"), atol=1e-6)


def test_the_limit_on_iterations_is_obeyed_and_a_remedy_is_named(solve):
    options = ("--method", "cg", "--preconditioner", "identity", "--max-iterations", "2")
    code, out, _ = solve("A.mtx", "b.mtx", *options)
    shown = rows(out)
    assert (code, shown["iterations"]) == (1, "2")
    assert shown["outcome"] == f"{Status.STOPPED_STEPS.reason}; {Status.STOPPED_STEPS.remedy}"


def test_writes_a_solution_that_solves_the_system(solve, folder):
    code, _, _ = solve("A.mtx", "b.mtx", "--rtol", "1e-12", "--out", "x.mtx")
    assert code == 0
    x, b = read(folder / "x.mtx"), read(folder / "b.mtx")
    assert x.shape == (25, 1)
    assert np.linalg.norm(b - A @ x) <= 1e-12 * np.linalg.norm(b)
    assert (folder / "x.mtx").read_bytes().startswith(b"%%MatrixMarket matrix array real general")


def test_writes_through_links_and_pipes_and_compresses(solve, folder):
    (folder / "kept.mtx").write_text("old")
    (folder / "link.mtx").symlink_to("kept.mtx")
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link.mtx", "pipe", "x.mtx.gz"):
        assert solve("A.mtx", "b.mtx", "--out", name)[0] == 0
    written = (folder / "kept.mtx").read_bytes()
    assert (folder / "link.mtx").is_symlink()
    assert (folder / "pipe").is_fifo()
    assert os.read(reader, 10**6) == gzip.decompress((folder / "x.mtx.gz").read_bytes()) == written
    os.close(reader)


def test_lines_are_not_broken_where_nobody_reads_along(solve, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert "(asked 1.00e-08)" in rows(solve("A.mtx")[1])["certified"]


def test_a_full_disk_is_one_line(solve, monkeypatch):
    def full(path, x):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("precond.solving.command.write_vectors", full)
    code, _, err = solve("A.mtx", "--out", "x.mtx")
    assert code == 1
    assert err.startswith("error: x.mtx: cannot be written")


def test_several_right_hand_sides_are_columns(solve, folder):
    code, out, _ = solve("A.mtx", "B.mtx", "--out", "named-by-user")
    assert code == 0
    assert "2 columns" in rows(out)["right-hand side"]
    np.testing.assert_allclose(A @ read(folder / "named-by-user"), read(folder / "B.mtx"), atol=1e-6)


def test_method_and_preconditioner_are_obeyed(solve):
    code, out, _ = solve("A.mtx", "--method", "gmres", "--preconditioner", "jacobi")
    assert code == 0
    assert rows(out)["method"].lower() == "gmres + jacobi"
    assert "chosen because" not in rows(out)


def test_a_rectangular_matrix_is_a_least_squares_problem(solve, folder):
    rhs = rng.standard_normal((9, 1))
    scipy.io.mmwrite(folder / "rhs.mtx", rhs)
    code, out, _ = solve("tall.mtx", "rhs.mtx", "--rtol", "1e-11", "--out", "x.mtx", "--plot")
    assert code == 0
    assert "lsqr" in rows(out)["method"]
    shown = rows(out)
    assert "normal-equations residual" in shown["certified"]
    assert "relative residual" in shown
    assert not [name for name in shown if name in shown["certified"]]  # said once
    expected = np.linalg.lstsq(read_dense(folder / "tall.mtx"), rhs)[0]
    np.testing.assert_allclose(read(folder / "x.mtx"), expected, rtol=1e-7)


def read_dense(path: Path) -> np.ndarray:
    return scipy.io.mmread(path).toarray()


def test_the_picture_is_of_the_tolerance_asked_for(solve, monkeypatch):
    asked = []
    monkeypatch.setattr("precond.solving.command.draw_convergence", lambda *arguments: asked.append(arguments[2]))
    assert solve("A.mtx", "--rtol", "1e-9", "--plot")[0] == 0
    assert asked == [1e-9]


def test_draws_the_convergence(solve, folder):
    code, out, _ = solve("A.mtx", "--plot")
    assert code == 0
    assert rows(out)["picture"] == "A-convergence.png"
    content = (folder / "A-convergence.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5000


def test_the_picture_lies_beside_the_solution_and_is_checked_before_the_work(solve, folder):
    (folder / "sub").mkdir()
    assert solve("A.mtx", "--out", "sub/x.mtx", "--plot")[0] == 0
    assert (folder / "sub" / "A-convergence.png").is_file()
    (folder / "A-convergence.png").mkdir()
    code, _, err = solve("A.mtx", "--out", "x.mtx", "--plot")
    assert code == 2
    assert "A-convergence.png: is a folder" in err
    assert not (folder / "x.mtx").exists()


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_the_picture_shows_relative_residuals_the_certified_one_and_the_tolerance(tmp_path, monkeypatch, scale):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: kept.append(self))
    b = scale * np.arange(1.0, 26)
    result = precond.solve(A, b, method="cg", preconditioner="jacobi", rtol=1e-6, atol=1e-3)
    with np.errstate(all="raise"):
        draw_convergence(result, b, 1e-6, "A", tmp_path / "A.png")
    method, *certified, asked = kept[0].axes[0].get_lines()
    want = np.array(result.history) / (np.linalg.norm(b) or 1.0)
    np.testing.assert_array_equal(method.get_ydata(), np.where(want > 0, want, np.nan))
    assert list(asked.get_ydata()) == [1e-6, 1e-6]
    true = np.linalg.norm(b - A @ result.x) / (np.linalg.norm(b) or 1.0)
    assert [float(line.get_ydata()[0]) for line in certified] == pytest.approx([true] if scale else [], rel=1e-6)

    a, b = rng.standard_normal((9, 4)), np.ones(9)
    fit = precond.lstsq(a, b)
    draw_convergence(fit, b, 1e-8, "fit", tmp_path / "fit.png")
    relative = np.linalg.norm(b - a @ fit.x) / 3
    assert float(kept[1].axes[0].get_lines()[1].get_ydata()[0]) == pytest.approx(relative)


def test_files_read_back_bit_for_bit(folder):
    x = rng.standard_normal((3, 3)) * 10.0 ** np.array([-300, 0, 300])
    write_vectors(folder / "x.mtx", x)
    np.testing.assert_array_equal(read(folder / "x.mtx"), x)
    write_vectors(folder / "s.mtx.gz", x + x.T)
    packed = (folder / "s.mtx.gz").read_bytes()
    assert gzip.decompress(packed).startswith(b"%%MatrixMarket matrix array real general")  # symmetric as it may be
    assert packed[4:8] == bytes(4)  # no time: equal solutions are equal files


def test_a_file_that_was_not_completed_leaves_the_old_one_and_nothing_else(folder, monkeypatch):
    def broken(self, target):
        raise OSError(errno.EIO, "Input/output error", str(target))

    (folder / "x.mtx").write_text("old")
    before = set(folder.iterdir())
    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_vectors(folder / "x.mtx", np.ones(2))
    assert (folder / "x.mtx").read_text() == "old"
    assert set(folder.iterdir()) == before


def test_a_file_that_may_not_be_written_is_refused_before_the_work(solve, monkeypatch):
    allowed = os.access
    monkeypatch.setattr(
        "precond.solving.files.os.access", lambda path, mode, **more: mode != os.W_OK and allowed(path, mode, **more)
    )
    code, out, err = solve("A.mtx", "--out", "x.mtx")
    assert (code, out) == (2, "")
    assert "check the permissions" in err


def test_not_converged_is_exit_code_1_and_still_a_table(solve, folder):
    options = ("--method", "gmres", "--preconditioner", "identity", "--max-iterations", "40")
    scipy.io.mmwrite(folder / "e.mtx", np.eye(90)[:, :1])
    code, out, err = solve("cycle.mtx", "e.mtx", *options, "--out", "x.mtx")
    assert (code, err) == (1, "")
    assert rows(out)["outcome"]
    assert float(rows(out)["certified"].split(" = ")[1].split()[0]) == pytest.approx(1.0)
    assert (folder / "x.mtx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.mtx"], "no such file"),
        (["A.mtx", "none.mtx"], "no such file"),
        (["A.mtx", "tall.mtx"], "25"),
        (["A.mtx", "--method", "cgg"], "nearest known: cg"),
        (["A.mtx", "--preconditioner", "ic1"], "ic0"),
        (["A.mtx", "--rtol", "-1"], "rtol"),
        (["A.mtx", "--out", "nowhere/x.mtx"], "no folder"),
        (["A.mtx", "--out", "."], "folder"),
        (["cycle.mtx", "--method", "cg"], "gmres"),
        (["tall.mtx", "--method", "cg"], "cg is for square systems (precond.solve)"),
        (["A.mtx", "--method", "lsqr"], "lsqr is for least squares (precond.lstsq)"),
        (["A.mtx", "--method", "ic0"], "ic0 is a preconditioner"),
        (["A.mtx", "--preconditioner", "CG"], "cg is a method (an iteration)"),
        (["A.mtx", "--out", "A.mtx"], "name another file"),
        (["A.mtx", "b.mtx", "--out", "./b.mtx"], "name another file"),
    ],
)
def test_wrong_input_is_one_line(solve, words, message):
    code, out, err = solve(*words)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


def test_a_damaged_matrix_is_named_with_its_line(solve, folder):
    lines = (folder / "A.mtx").read_text().splitlines()
    lines[5] = "1 1 abc"
    (folder / "bad.mtx").write_text("\n".join(lines))
    code, _, err = solve("bad.mtx")
    assert code == 2
    assert "bad.mtx:6" in err


def test_runs_as_a_process(folder, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    words = ["-m", "precond", "solve", str(folder / "A.mtx")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cg + ic0" in done.stdout
