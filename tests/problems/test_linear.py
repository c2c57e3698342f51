import numpy as np
import pytest
import scipy.sparse.linalg

from precond.core import BadInputError
from precond.problems import LeastSquares, LinearSystem, convection_diffusion, load, poisson2d, poisson3d


def laplacian(n, dimensions):
    """The stencil written out point by point."""
    shape = (n,) * dimensions
    matrix = np.zeros((n**dimensions,) * 2)
    for point in np.ndindex(shape):
        row = np.ravel_multi_index(point, shape)
        matrix[row, row] = 2 * dimensions
        for axis in range(dimensions):
            for side in (-1, 1):
                beside = list(point)
                beside[axis] += side
                if 0 <= beside[axis] < n:
                    matrix[row, np.ravel_multi_index(beside, shape)] = -1
    return matrix


@pytest.mark.parametrize(("make", "dimensions"), [(poisson2d, 2), (poisson3d, 3)])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_poisson_is_the_stencil(make, dimensions, n):
    problem = make(n=n)
    np.testing.assert_array_equal(problem.matrix.toarray(), laplacian(n, dimensions))
    assert problem.symmetric is problem.definite is True


def test_conjugate_gradients_meet_the_target_on_the_default_poisson_problems():
    for problem in (poisson2d(), poisson3d()):
        b = np.random.default_rng(0).standard_normal(problem.matrix.shape[0])
        x, info = scipy.sparse.linalg.cg(problem.matrix, b, rtol=problem.target, maxiter=problem.horizon.steps)
        assert info == 0
        assert np.linalg.norm(b - problem.matrix @ x) <= 1.01 * problem.target * np.linalg.norm(b)


@pytest.mark.parametrize("angle", [0.0, 30.0, 120.0, 250.0])
def test_convection_is_upwind_and_exact_on_linear_functions(angle):
    n, peclet = 6, 80.0
    matrix = convection_diffusion(n=n, peclet=peclet, angle=angle).matrix.toarray()
    off = matrix - np.diag(np.diag(matrix))
    assert (off <= 1e-14).all(), "an M-matrix has no positive entry beside the diagonal"
    assert np.linalg.eigvalsh(matrix + matrix.T).min() > 0
    h = 1 / (n + 1)
    x, y = np.meshgrid(*2 * [np.arange(1, n + 1) * h], indexing="ij")
    inside = (x > 1.5 * h) & (x < 1 - 1.5 * h) & (y > 1.5 * h) & (y < 1 - 1.5 * h)
    applied = (matrix @ (2 * x + 3 * y).ravel()).reshape(n, n) / h**2
    expected = peclet * (2 * np.cos(np.radians(angle)) + 3 * np.sin(np.radians(angle)))
    np.testing.assert_allclose(applied[inside], expected, atol=1e-8)


def test_without_flow_it_is_poisson():
    problem = convection_diffusion(n=3, peclet=0.0)
    np.testing.assert_array_equal(problem.matrix.toarray(), laplacian(3, 2))
    assert problem.symmetric is True
    assert convection_diffusion(n=3).symmetric is False


HEAD = "%%MatrixMarket matrix coordinate"


@pytest.mark.parametrize("name", ["a.mtx", "a.mtx.gz"])
@pytest.mark.parametrize(
    ("content", "expected", "symmetric"),
    [
        (f"{HEAD} real general\n% a comment\n\n2 2 3\n1 1 2\n2 2 3e0\n1 2 -1\n", [[2, -1], [0, 3]], None),
        (f"{HEAD} real symmetric\n2 2 2\n1 1 2\n2 1 5\n", [[2, 5], [5, 0]], True),
        (f"{HEAD} real skew-symmetric\n2 2 1\n2 1 5\n", [[0, -5], [5, 0]], None),
        (f"{HEAD} pattern general\n2 2 2\n1 1\n2 1\n", [[1, 0], [1, 0]], None),
        (f"{HEAD} integer general\n2 2 2\n1 1 4\n1 1 3\n", [[7, 0], [0, 0]], None),
        (f"{HEAD} complex hermitian\n2 2 2\n1 1 2 0\n2 1 1 3\n", [[2, 1 - 3j], [1 + 3j, 0]], True),
        (f"{HEAD} complex symmetric\n2 2 1\n2 1 1 3\n", [[0, 1 + 3j], [1 + 3j, 0]], None),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n", [[1, 3], [2, 4]], None),
    ],
)
def test_matrix_market_forms(write, name, content, expected, symmetric):
    problem = load(str(write(name, content)))
    assert isinstance(problem, LinearSystem)
    np.testing.assert_array_equal(problem.matrix.toarray(), expected)
    assert problem.matrix.dtype in (np.float64, np.complex128)
    assert problem.symmetric is symmetric
    assert problem.definite is None


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{HEAD} real general\n2 2 3\n1 1 1\n1 2 2\n2 2 -3\n",
        f"{HEAD} real general\n% one\n2 2 3\n1 1 +1\n% two\n1 2 2\n\n2 2 -.3E+1\n",
        f"{HEAD} real general\r\n2 2 4\r\n1 1 1\r\n1 2 1\r\n1 2 1\r\n2 2 -3\r\n",
        f"{HEAD} integer general\n% 1.5\n2 2 3\n1 1 +1\n1 2 2\n2 2 -3\n",
    ],
)
def test_files_of_other_programs_are_read(write, content):
    np.testing.assert_array_equal(load(str(write("other.mtx", content))).matrix.toarray(), [[1, 2], [0, -3]])


def test_a_matrix_that_is_not_square_makes_least_squares(write):
    path = write("tall.mtx", f"{HEAD} real general\n3 2 1\n3 2 1.5\n")
    problem = load(f"matrix:{path}")
    assert isinstance(problem, LeastSquares)
    assert problem.matrix.shape == (3, 2)


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("hello\n1 1 1\n", 1, "not a Matrix Market file"),
        ("\x7fELF\x02\x01", 1, "'binary data'"),
        ("%%MatrixMarket matrix coordinate real\n", 1, "4 words in the header, not 5"),
        ("%%MatrixMarket vector coordinate real general\n", 1, "holds a vector"),
        (f"{HEAD} quaternion general\n", 1, "unknown field 'quaternion'; write one of real"),
        (f"{HEAD} real general\n% only a comment\n", 3, "no size line"),
        (f"{HEAD} real general\n2 2\n1 1 1\n", 2, "does not hold 3 counts"),
        (f"{HEAD} real general\n2 2 x\n1 1 1\n", 2, "does not hold 3 counts"),
        (f"{HEAD} real general\n%\n2 2 2\n1 1 1\n2 3 1\n", 5, "column 3 is outside 1..2"),
        (f"{HEAD} real general\n2 2 2\n0 1 1\n2 2 1\n", 3, "row 0 is outside 1..2"),
        (f"{HEAD} real general\n2 2 2\n1 1 1\n2 2 abc\n", 4, "'abc' is not a number"),
        (f"{HEAD} real general\n2 2 2\n1 1 1\n2 2 nan\n", 4, "nan is not finite"),
        (f"{HEAD} real general\n2 2 2\n1 1 1\n2 2\n", 4, "2 numbers where an entry has 3"),
        (f"{HEAD} real general\n2 2 2\n1 1.5 1\n2 2 1\n", 3, "'1.5' is not a column number"),
        (f"{HEAD} real general\n2 2 3\n1 1 1\n2 2 1\n", 5, "2 entries where 3 were announced"),
        (f"{HEAD} real general\n2 2 1\n1 1 1\n2 2 1\n", 4, "2 entries where 1 were announced"),
        (f"{HEAD} real general\n2 2 9000000000000\n1 1 1\n", 4, "1 entries where 9000000000000 were announced"),
        (f"{HEAD} real general\n900000000 900000000 1\n1 1 1\n", 2, "at most 100000000 rows"),
        (f"{HEAD} real symmetric\n3 2 1\n1 1 1\n", 2, "symmetric but 3 x 2"),
        (f"{HEAD} real general\n0 0 0\n", None, "a matrix of 0 x 0"),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n", 6, "3 entries where 4 were announced"),
        ("%%MatrixMarket matrix array pattern general\n1 1\n1\n", 1, "a pattern has no entries to list"),
        (f"{HEAD} integer general\n1 1 1\n1 1 2.5\n", 3, "'2.5' is not a whole number; write 'real'"),
        (f"{HEAD} integer general\n1 1 1\n1 1 2e3\n", 3, "'2e3' is not a whole number; write 'real'"),
        (f"{HEAD} integer general\n1 1 1\n1 1 {2**64}\n", 3, "beyond integers of 64 bits"),
        ("%%MatrixMarket matrix array integer general\n1 1\n2.5\n", 3, "'2.5' is not a whole number"),
        (f"{HEAD} real general\n1 1 1\n1 1 2.0D3\n", 3, "'2.0D3' is not a number; write a number, as in"),
        (f"{HEAD} real general\n1 1 1\n1 1 2.0 1.0\n", 3, "4 numbers where an entry has 3; correct"),
        (f"{HEAD} real symmetric\n2 2 3\n1 1 1\n2 1 1\n1 2 1\n", 5, "entry 1 2 follows its mirror image"),
        (f"{HEAD} real skew-symmetric\n2 2 2\n2 1 1\n2 2 1\n", 4, "the diagonal entry 2 2 of a skew-symmetric"),
        (f"{HEAD} complex hermitian\n2 2 2\n2 1 1 1\n2 2 1 1\n", 4, "entry 2 2 of a Hermitian matrix is not real"),
    ],
)
def test_a_damaged_matrix_is_explained_with_its_line(write, refused, content, line, says):
    path = write("bad.mtx", content)
    message = refused(f"matrix:{path}")
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: "), message
    assert says in message
    assert "; " in message


def test_sizes_must_be_positive():
    for make in (poisson2d, poisson3d, convection_diffusion):
        with pytest.raises(BadInputError, match="n=0 leaves no unknowns"):
            make(n=0)
