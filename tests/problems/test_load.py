import pytest

from precond.core import BadInputError, Kind, UnknownNameError
from precond.problems import LinearSystem, Smooth, Training, all_problems, load

MTX = "%%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 2\n2 2 3\n1 2 1\n"
LIBSVM = "".join(f"{'+1' if i % 3 else '-1'} 1:{i * 0.37 % 1:.3f} 2:{i * 0.71 % 1:.3f}\n" for i in range(30))
TEXT = "the quick brown fox jumps over the lazy dog. " * 100


def test_every_problem_declares_itself_and_is_documented():
    known = all_problems()
    assert {"convection-diffusion", "digits", "logistic", "nist", "poisson2d", "poisson3d", "stdlib-lm"} <= set(known)
    for name, entry in known.items():
        assert entry.name == name
        assert entry.purpose.endswith(".")
        assert entry.example.startswith(name)
        assert entry.make.__doc__


@pytest.mark.parametrize("name", ["digits", "logistic", "poisson2d", "poisson3d", "convection-diffusion", "stdlib-lm"])
def test_a_known_name_loads(name):
    problem = load(name)
    assert problem.name == name
    assert problem.description
    assert isinstance(problem.kind, Kind)
    assert problem.target > 0


def test_options_are_read_as_numbers():
    assert load("poisson2d:n=7").matrix.shape == (49, 49)
    assert load("convection-diffusion:n=4, peclet=0").symmetric is True


@pytest.mark.parametrize(
    ("spec", "near"),
    [("digts", "digits"), ("poison2d:n=3", "poisson2d"), ("poisson2d:m=3", "n"), ("logistics:x", "logistic")],
)
def test_an_unknown_name_lists_the_nearest(spec, near):
    with pytest.raises(UnknownNameError, match=f"nearest known: .*{near}"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "no problem is named"),
        ("poisson2d:n=two", "n=two is not a number.*n=100"),
        ("poisson2d:n=0", "n=0 leaves no unknowns"),
        ("poisson2d:some/path", "takes no path.*key=value"),
        ("convection-diffusion:peclet=-1", "peclet"),
        ("nist", "nist needs a path.*nist:Thurber.dat.gz.*itl.nist.gov"),
        ("matrix", "matrix needs a path.*matrix:FILE"),
        ("stdlib-lm:width=10,heads=4", "not a multiple"),
        ("nowhere/at/all.mtx", "no such file"),
    ],
)
def test_what_cannot_be_loaded_is_explained(spec, says):
    with pytest.raises(BadInputError, match=says):
        load(spec)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "kind", "problem"),
    [
        ("a.mtx", MTX, LinearSystem, "matrix:a"),
        ("unnamed", MTX, LinearSystem, "matrix:unnamed"),
        ("a9", LIBSVM, Smooth, "logistic:a9"),
        ("book.txt", TEXT, Training, "stdlib-lm:book"),
    ],
)
def test_a_bare_path_is_recognised_by_what_it_holds(write, name, content, kind, problem, suffix):
    made = load(str(write(name + suffix, content)))
    assert isinstance(made, kind)
    assert made.name == problem


def test_a_path_may_be_followed_by_options(write):
    path = write("book, 2nd=edition.txt", TEXT)
    assert "width 8" in load(f"stdlib-lm:{path},width=8,depth=1").description
    assert "width 64" in load(f"stdlib-lm:{path}").description


@pytest.mark.parametrize("content", [bytes(range(256)) * 10, "1.5 2.5 3\n4 5 6\n" * 300, "yes 1:2\nno 1:3\n" * 300])
def test_binary_data_and_tables_are_not_guessed_at(write, refused, content):
    assert "not recognised; name the problem before the path" in refused(str(write("unknown", content)))


def test_a_folder_says_which_files_it_holds(write, refused, tmp_path):
    write("b.dat.gz", "x")
    write("a.dat", "x")
    for spec in (f"nist:{tmp_path}", str(tmp_path)):
        assert "is a folder, not a file; name a file in it: a.dat, b.dat.gz" in refused(spec)


def test_a_misspelled_file_names_its_neighbour(write, refused):
    path = write("bcsstk16.mtx", MTX)
    assert "did you mean" in refused(str(path).replace("16", "17"))


@pytest.mark.parametrize("kind", ["matrix", "logistic", "stdlib-lm", "nist"])
def test_missing_empty_and_damaged_files(write, refused, kind, tmp_path):
    assert "no such file" in refused(f"{kind}:{tmp_path / 'absent'}")
    assert "empty file" in refused(f"{kind}:{write('empty', '')}")
    assert "empty file" in refused(f"{kind}:{write('empty.gz', '')}")
    whole = write("cut.gz", (MTX + TEXT) * 3)
    whole.write_bytes(whole.read_bytes()[:60])
    assert "damaged gzip file" in refused(f"{kind}:{whole}")
    assert "zero byte" in refused(f"{kind}:{write('nul', b'1 1:2' + bytes(9))}") or kind in ("matrix", "nist")
    assert "name a file in it" in refused(f"{kind}:{tmp_path}")
