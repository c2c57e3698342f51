import pytest

from precond.core import Kind
from precond.problems import load

GOOD = """
import scipy.sparse
from helper_of_mine import size
from precond.problems import LinearSystem

def mine():
    return LinearSystem("mine", "the identity", scipy.sparse.eye_array(size()), symmetric=True)

def wrong():
    return 3

def broken():
    x = 1
    raise KeyError("two\\nlines")

not_a_function = 5
"""


@pytest.fixture
def file(write):
    write("helper_of_mine.py", "def size():\n    return 4\n")
    return write("own.py", GOOD)


def test_a_function_of_a_file_makes_a_problem(file):
    problem = load(f"{file}:mine")
    assert problem.kind is Kind.LINEAR_SYSTEM
    assert problem.matrix.shape == (4, 4)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("mini", "no function 'mini'; did you mean mine"),
        ("zzz", "no function 'zzz'; it defines mine, wrong, broken"),
        ("wrong", "own.py:9: wrong() returned a int, not a problem; return precond.problems.Training"),
        ("broken", "own.py:14: broken() raised KeyError: 'two\\nlines'"),
        ("not_a_function", "'not_a_function' is a int, not a function"),
        ("", "no function is named; write"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_the_line(file, refused, function, says):
    assert says in refused(f"{file}:{function}")


def test_a_file_that_cannot_be_imported(write, refused, tmp_path):
    assert "no such file" in refused(f"{tmp_path / 'absent.py'}:f")
    syntax = write("syntax.py", "x = 1\ndef f(:\n")
    assert "syntax.py:2: the import raised SyntaxError" in refused(f"{syntax}:f")
    division = write("division.py", "\n\n1 / 0")
    assert "division.py:3: the import raised ZeroDivisionError" in refused(f"{division}:f")
    leaving = write("leaving.py", "import sys\nsys.exit('bye')\n")
    assert "leaving.py:2: the import raised SystemExit: bye" in refused(f"{leaving}:f")
    bare = write("bare.py", "def f(): ...\n")
    assert f"no function is named; write {bare}:FUNCTION; it defines f" in refused(str(bare))
