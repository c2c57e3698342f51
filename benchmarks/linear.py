"""Times linear systems, and sequences of them, against SciPy (and PyAMG where it is installed), in one run.

    python benchmarks/linear.py                          every section, printed
    python benchmarks/linear.py sequence cg --write      some, and into docs/benchmarks.md
    python benchmarks/linear.py matrices --matrices DIR  every Matrix Market file of a folder

A section is a function declared with ``@section``; it gets the options and returns a table in Markdown. Contestants
take turns in rounds and medians are reported; the clock is that of the processor, on one thread; every residual is
recomputed from the matrix in double precision, whatever a method says of itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.io
import scipy.sparse
import scipy.sparse.linalg
import torch

import pages
import precond
import precond.scipy
from precond.core import Evidence
from precond.krylov import SOR
from precond.operators import as_operator
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ilu0 import ILU0
from precond.problems.load import load
from precond.solvers.bandits import ChebCB, Learner, TsallisINF

PROGRAM = "linear.py"
NAME = "linear: {section}"
TOLERANCE = 1e-8
System = tuple[scipy.sparse.csr_array, np.ndarray]
Section = Callable[[argparse.Namespace], str]
SECTIONS: dict[str, Section] = {}


def section(measure: Section) -> Section:
    """Declare the decorated function as a section, by its name."""
    SECTIONS[measure.__name__] = measure
    return measure


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> str:
    """Return a table in Markdown with the conditions of the run under it."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    versions = f"SciPy {scipy.__version__}, torch {torch.__version__}, {datetime.date.today()}"
    return "\n".join([*lines, "", f"{note} One thread of {platform.machine()}; {versions}."])


def residual(A: Any, b: np.ndarray, x: np.ndarray) -> float:
    """Return ``||b - A x|| / ||b||``."""
    return float(np.linalg.norm(b - A @ x) / np.linalg.norm(b))


def medians(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contestant, which take turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            begin = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Counted(scipy.sparse.linalg.LinearOperator):
    """A matrix that counts its products."""

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix, self.products = matrix, 0

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        self.products += 1
        return self.matrix @ v.ravel()


def inverse(part: Any, matrix: scipy.sparse.csr_array) -> scipy.sparse.linalg.LinearOperator:
    """Return one of our preconditioners, set up for a matrix, as SciPy's solvers take it."""
    like = torch.zeros(1, matrix.shape[0], dtype=torch.float64)
    state = part.init(like)
    part.observe(state, Evidence(operator=as_operator(matrix)))
    part.refresh(state)
    return scipy.sparse.linalg.LinearOperator(
        matrix.shape, matvec=lambda v: part.apply(state, torch.from_numpy(v.reshape(1, -1)))[0].numpy(), dtype=float
    )


# ---- sequences


def drifting(side: int, count: int) -> Iterable[System]:
    """Yield convection-diffusion systems whose wind turns and grows slowly, with right-hand sides that drift."""
    b, turned = np.random.default_rng(0).standard_normal((2, side**2))
    for i in range(count):
        t = i / count
        matrix = load(f"convection-diffusion:n={side},peclet={100 + 50 * t},angle={15 + 45 * t}").matrix
        yield scipy.sparse.csr_array(matrix), b + 0.3 * t * turned


def drawn(side: int, count: int) -> Iterable[System]:
    """Yield convection-diffusion systems whose wind is drawn about a mean, with random right-hand sides."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        peclet, angle = generator.uniform(70, 130), 30 + 17 * generator.standard_normal()
        matrix = load(f"convection-diffusion:n={side},peclet={peclet},angle={angle}").matrix
        yield scipy.sparse.csr_array(matrix), generator.standard_normal(side**2)


def unrelated(side: int, count: int) -> Iterable[System]:
    """Yield convection-diffusion systems with winds from everywhere, which have little in common."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        peclet, angle = generator.uniform(20, 200), generator.uniform(0, 360)
        matrix = load(f"convection-diffusion:n={side},peclet={peclet},angle={angle}").matrix
        yield scipy.sparse.csr_array(matrix), generator.standard_normal(side**2)


FAMILIES = {"wind that turns": drifting, "wind drawn about a mean": drawn, "wind from everywhere": unrelated}


@dataclasses.dataclass
class Account:
    """What a contestant took for a sequence."""

    seconds: float
    products: int
    worst: float


def in_sequence(systems: Sequence[System], solve: Callable[[Counted, np.ndarray], np.ndarray]) -> Account:
    """Solve one system after another."""
    account = Account(0.0, 0, 0.0)
    for matrix, b in systems:
        counted = Counted(matrix)
        begin = time.process_time()
        x = solve(counted, b)
        account.seconds += time.process_time() - begin
        account.products += counted.products
        account.worst = max(account.worst, residual(matrix, b, x))
    return account


def our_sequence(systems: Sequence[System], **options: Any) -> tuple[Account, Any]:
    """Solve one system after another with ``SolveSequence``."""
    sequence = precond.SolveSequence(rtol=TOLERANCE, **options)
    account = in_sequence(systems, lambda A, b: sequence.solve(A.matrix, b).x)
    account.products = sequence.work.matvecs
    return account, sequence


@section
def sequence(options: argparse.Namespace) -> str:
    """Sequences of related systems: one object for all against the rivals' ways."""
    import scipy.sparse.linalg as sl

    rows = []
    our_sequence(list(drawn(12, 8)))  # compiles
    for family, make in FAMILIES.items():
        systems = list(make(options.side, options.systems))
        M = inverse(ILU0(), systems[0][0])
        ways: dict[str, Callable[[Counted, np.ndarray], np.ndarray]] = {
            "SciPy bicgstab, our ILU(0) of the first": lambda A, b, M=M: sl.bicgstab(A, b, rtol=TOLERANCE / 2, M=M)[0],
            "SciPy splu, each": lambda A, b: sl.splu(A.matrix.tocsc()).solve(b),
            "SciPy gcrotmk, cold": lambda A, b: sl.gcrotmk(A, b, rtol=TOLERANCE)[0],
            "SciPy gcrotmk, our ILU(0) of the first": lambda A, b, M=M: sl.gcrotmk(A, b, rtol=TOLERANCE, M=M)[0],
        }
        accounts = {name: in_sequence(systems, solve) for name, solve in ways.items()}
        best = min(account.seconds for account in accounts.values() if account.worst <= 2 * TOLERANCE)
        accounts["precond.SolveSequence()"], ours = our_sequence(systems)
        for name, account in accounts.items():
            rows.append((
                family, name, f"{1e3 * account.seconds / len(systems):.1f}", f"{account.products / len(systems):.1f}",
                f"{account.worst:.1e}", f"{best / account.seconds:.2f}",
            ))  # fmt: skip
        measured = "; ".join(f"{label}: {1e3 * cost:.1f} ms" for label, cost in ours.report if cost is not None)
        rows.append((family, f"measured by it: {measured}", "", "", "", ""))
    head = ("family", "way", "ms a system", "products a system", "worst residual", "best rival / this")
    note = f"{options.systems} systems of {options.side**2} unknowns, relative residual {TOLERANCE:g}."
    return table(head, rows, note)


@section
def recycling(options: argparse.Namespace) -> str:
    """Recycling without a preconditioner: products of GMRES(40), GCRO-DR cold and recycled, and of gcrotmk."""
    side, count = min(options.side, 40), min(options.systems, 20)
    rows = []
    for family, make in FAMILIES.items():
        systems = list(make(side, count))
        accounts = {
            "SciPy gcrotmk, cold": in_sequence(
                systems, lambda A, b: scipy.sparse.linalg.gcrotmk(A, b, rtol=TOLERANCE)[0]
            )
        }
        for label, method, warm in (
            ("GMRES(40)", precond.krylov.GMRES(40), False),
            ("GCRO-DR(40, 20), recycled", precond.krylov.GCRODR(40, 20), False),
            ("GCRO-DR(40, 20), recycled, warm", precond.krylov.GCRODR(40, 20), True),
        ):
            accounts[label], _ = our_sequence(systems, method=method, preconditioner="identity", warm=warm)
        cold = Account(0.0, 0, 0.0)
        for system in systems:
            one, _ = our_sequence([system], method=precond.krylov.GCRODR(40, 20), preconditioner="identity")
            cold = Account(cold.seconds + one.seconds, cold.products + one.products, max(cold.worst, one.worst))
        accounts["GCRO-DR(40, 20), cold"] = cold
        rows += [
            (family, name, f"{account.products / count:.1f}", f"{account.worst:.1e}")
            for name, account in accounts.items()
        ]
    note = f"{count} systems of {side**2} unknowns, relative residual {TOLERANCE:g}."
    return table(("family", "way", "products a system", "worst residual"), rows, note)


@section
def relaxation(options: argparse.Namespace) -> str:
    """Learned relaxation of SOR against fixed ones, on shifted Laplacians as in *Learning to relax*."""
    count, grid = 4 * options.systems, (1.0, 1.2, 1.4, 1.6, 1.8)
    laplacian = scipy.sparse.csr_array(load("poisson2d:n=10").matrix)
    laplacian = laplacian * (4 / laplacian.diagonal()[0])
    rows = []
    for variance, (a, b) in {"high": (0.5, 1.5), "low": (2.0, 6.0)}.items():
        generator = np.random.default_rng(0)
        shifts = -0.15 + 0.6 * generator.beta(a, b, count)
        sides = generator.standard_normal((count, 100))
        systems = [(laplacian + c * scipy.sparse.eye_array(100), s) for c, s in zip(shifts, sides, strict=True)]

        def mean(solve: Callable[..., Any], systems: list[System] = systems, shifts: Any = shifts) -> float:
            return statistics.mean(solve(A, b, c).iterations for (A, b), c in zip(systems, shifts, strict=True))

        limits = {"rtol": TOLERANCE, "max_iterations": 5000}
        fixed = {
            w: mean(lambda A, b, c, w=w, limits=limits: precond.solve(A, b, method=SOR(w), **limits)) for w in grid
        }
        least = min(fixed.values())
        rows += [(variance, f"fixed {w}", f"{value:.1f}", f"{value - least:+.1f}") for w, value in fixed.items()]
        learners: tuple[Learner, ...] = (TsallisINF(), ChebCB(low=-0.15, high=0.45))
        for learner in learners:
            one = precond.SolveSequence(method="sor", omega=learner, warm=False, **limits)
            value = mean(lambda A, b, c, one=one: one.solve(A, b, context=float(c)))
            rows.append((variance, type(learner).__name__, f"{value:.1f}", f"{value - least:+.1f}"))
    note = f"{count} systems, 5-point Laplacian of 100 unknowns plus a random shift, relative residual {TOLERANCE:g}."
    return table(("variance of the shift", "omega", "mean iterations", "regret against the best fixed"), rows, note)


# ---- single systems


@section
def cg(options: argparse.Namespace) -> str:
    """Conjugate gradients, microseconds an iteration, with the same preconditioner on both sides."""
    rows = []
    for side in (10, 50, 100, 300):
        matrix = scipy.sparse.csr_array(load(f"poisson2d:n={side}").matrix)
        b = np.random.default_rng(0).standard_normal(side**2)
        for name, M in (("none", None), ("our IC(0)", inverse(IC0(), matrix))):
            contestants: dict[str, Callable[..., Any]] = {
                "SciPy": lambda M=M, matrix=matrix, b=b, **more: scipy.sparse.linalg.cg(
                    matrix, b, rtol=TOLERANCE, M=M, **more
                ),
                "precond.scipy": lambda M=M, matrix=matrix, b=b, **more: precond.scipy.cg(
                    matrix, b, rtol=TOLERANCE, M=M, **more
                ),
            }
            try:
                from pyamg.krylov import cg as theirs

                contestants["PyAMG"] = lambda M=M, matrix=matrix, b=b, theirs=theirs, **more: theirs(
                    matrix, b, tol=TOLERANCE, M=M, **more
                )
            except ImportError:
                pass
            counts = {}
            for label, solve in contestants.items():
                seen: list[None] = []
                x, _ = solve(callback=lambda _, seen=seen: seen.append(None))
                assert residual(matrix, b, x) <= 2 * TOLERANCE, label
                counts[label] = len(seen)
            times = medians(contestants, options.rounds)
            each = {label: 1e6 * times[label] / counts[label] for label in contestants}
            rows.append((
                f"{side**2}", name, f"{each['SciPy']:.1f}", f"{each['precond.scipy']:.1f}",
                f"{each['PyAMG']:.1f}" if "PyAMG" in each else "not installed",
                f"{each['SciPy'] / each['precond.scipy']:.2f}",
            ))  # fmt: skip
    head = ("unknowns", "preconditioner", "SciPy, us", "precond.scipy, us", "PyAMG, us", "SciPy / ours")
    return table(head, rows, f"5-point Laplacian, relative residual {TOLERANCE:g}, medians of {options.rounds} rounds.")


def stopped(solve: Callable[..., tuple[np.ndarray, int]]) -> Callable[[], tuple[np.ndarray, int]]:
    """Return a run of a solver with SciPy's signature: its solution, and how many iterations it took."""

    def run() -> tuple[np.ndarray, int]:
        seen: list[None] = []
        x, _ = solve(callback=lambda _: seen.append(None))
        return x, len(seen)

    return run


def elliptic(A: scipy.sparse.csr_array, b: np.ndarray, direct: bool) -> dict[str, Callable[[], tuple[np.ndarray, int]]]:
    """Return the contestants for one elliptic system; each sets up and solves."""
    import scipy.sparse.linalg as sl

    narrow = scipy.sparse.csr_matrix(A)
    ways: dict[str, Callable[[], tuple[np.ndarray, int]]] = {
        "SciPy cg": stopped(lambda **more: sl.cg(narrow, b, rtol=TOLERANCE, **more)),
        "SciPy cg, spilu": stopped(
            lambda **more: sl.cg(
                narrow, b, rtol=TOLERANCE,
                M=sl.LinearOperator(A.shape, sl.spilu(A.tocsc(), drop_tol=1e-3, fill_factor=5).solve), **more,
            )
        ),
    }  # fmt: skip
    if direct:
        ways["SciPy splu"] = lambda: (
            sl.splu(A.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(b), 0
        )  # fmt: skip
    try:
        import ilupp

        ways["SciPy cg, ilupp IC(0)"] = stopped(
            lambda **more: sl.cg(narrow, b, rtol=TOLERANCE, M=ilupp.IChol0Preconditioner(narrow), **more)
        )
    except ImportError:
        pass
    try:
        import pyamg

        for label, build in (("SA", pyamg.smoothed_aggregation_solver), ("RS", pyamg.ruge_stuben_solver)):
            ways[f"PyAMG {label}, cg"] = stopped(
                lambda build=build, **more: (build(narrow).solve(b, tol=TOLERANCE, accel="cg", **more), 0)
            )
    except ImportError:
        pass
    for name in ("ic0", "ict", "amg", "auto"):

        def ours(name: str = name) -> tuple[np.ndarray, int]:
            method = "auto" if name == "auto" else "cg"
            result = precond.solve(A, b, method=method, preconditioner=name, rtol=TOLERANCE)
            return result.x, result.iterations

        ways["precond, auto" if name == "auto" else f"precond cg, {name}"] = ours
    return ways


@section
def poisson(options: argparse.Namespace) -> str:
    """Laplacians in two and three dimensions, set up and solved, against SciPy, ilupp, PyAMG and a direct solver."""
    rows = []
    cases = [("poisson2d", round(options.unknowns**0.5)), ("poisson3d", round(options.unknowns ** (1 / 3)))]
    for family, side in cases:
        A = scipy.sparse.csr_array(load(f"{family}:n={side}").matrix)
        A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        ways = elliptic(A, b, direct=family == "poisson2d" or A.shape[0] < 50_000)
        found = {name: way() for name, way in ways.items()}  # compiles, too
        times = medians(ways, options.rounds)
        rivals = [times[name] for name in ways if not name.startswith("precond")]
        for name, (x, count) in found.items():
            rows.append((
                f"{family}, {A.shape[0]}", name, f"{times[name]:.3f}", f"{count or ''}", f"{residual(A, b, x):.1e}",
                f"{min(rivals) / times[name]:.2f}",
            ))  # fmt: skip
    head = ("problem, unknowns", "way", "seconds", "iterations", "residual", "best rival / this")
    note = f"Setup and solution, relative residual {TOLERANCE:g}, medians of {options.rounds} rounds."
    return table(head, rows, note)


@section
def multigrid(options: argparse.Namespace) -> str:
    """Multigrid over a sequence of Laplacians with slowly varying shifts: reused, against PyAMG."""
    import pyamg
    import scipy.sparse.linalg as sl

    side, count = round(options.unknowns**0.5), 6
    A = scipy.sparse.csr_array(load(f"poisson2d:n={side}").matrix)
    A = A * (4 / A.diagonal()[0])
    A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
    first, second = np.random.default_rng(0).standard_normal((2, A.shape[0]))
    one = scipy.sparse.eye_array(A.shape[0])
    systems = [
        (scipy.sparse.csr_array(A + 1e-4 * (1.2 + np.sin(i)) * one), first + 0.1 * i * second) for i in range(count)
    ]
    made: list[Any] = []

    def each(matrix: Counted, b: np.ndarray) -> np.ndarray:
        return pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(matrix.matrix)).solve(
            b, tol=TOLERANCE, accel="cg"
        )

    def kept(matrix: Counted, b: np.ndarray) -> np.ndarray:
        if not made:
            made.append(pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(matrix.matrix)).aspreconditioner())
        return sl.cg(matrix.matrix, b, rtol=TOLERANCE, M=made[0])[0]

    our_sequence(systems[:2], method="cg", preconditioner="amg")  # compiles
    accounts = {
        "PyAMG SA, cg, each": in_sequence(systems, each),
        "PyAMG SA of the first, SciPy cg": in_sequence(systems, kept),
    }
    accounts["SolveSequence(method='cg', preconditioner='amg')"], _ = our_sequence(
        systems, method="cg", preconditioner="amg"
    )
    accounts["SolveSequence()"], _ = our_sequence(systems)
    best = min(account.seconds for name, account in accounts.items() if name.startswith("PyAMG"))
    rows = [
        (name, f"{1e3 * account.seconds / count:.0f}", f"{account.worst:.1e}", f"{best / account.seconds:.2f}")
        for name, account in accounts.items()
    ]
    note = f"{count} systems of {A.shape[0]} unknowns, relative residual {TOLERANCE:g}."
    return table(("way", "ms a system", "worst residual", "best rival / this"), rows, note)


def generated() -> Iterable[tuple[str, scipy.sparse.csr_array]]:
    """Yield matrices made here, for whoever has no folder of them."""
    for name in ("poisson2d:n=64", "convection-diffusion:n=64", "convection-diffusion:n=64,peclet=2000"):
        yield name, scipy.sparse.csr_array(load(name).matrix)


def in_folder(folder: Path) -> Iterable[tuple[str, scipy.sparse.csr_array]]:
    """Yield the square matrices of a folder of Matrix Market files."""
    for path in sorted([*folder.glob("*.mtx"), *folder.glob("*.mtx.gz")]):
        matrix = scipy.sparse.csr_array(scipy.io.mmread(path))
        if matrix.shape[0] == matrix.shape[1]:
            yield path.name.partition(".")[0], matrix.astype(float)


def rivals_of(matrix: scipy.sparse.csr_array, b: np.ndarray) -> list[str]:
    """Return residuals of splu, of GMRES with spilu, and of PyAMG with GMRES; or what they raise."""
    import scipy.sparse.linalg as sl

    def direct() -> np.ndarray:
        return sl.splu(matrix.tocsc()).solve(b)

    def incomplete() -> np.ndarray:
        factors = sl.spilu(matrix.tocsc())
        M = sl.LinearOperator(matrix.shape, factors.solve)
        return sl.gmres(matrix, b, rtol=TOLERANCE, M=M, maxiter=50)[0]

    def multigrid_cycles() -> np.ndarray:
        import pyamg

        solver = pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(matrix))
        return solver.solve(b, tol=TOLERANCE, accel="gmres", maxiter=100)

    found = []
    for solve in (direct, incomplete, multigrid_cycles):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(f"{residual(matrix, b, solve()):.1e}")
        except ImportError:
            found.append("not installed")
        except Exception as error:  # whatever a rival raises is its result
            found.append(type(error).__name__)
    return found


@section
def matrices(options: argparse.Namespace) -> str:
    """Every matrix: what ``precond.solve`` does by itself, and a direct solver, SciPy with ILU, and PyAMG."""
    rows, solved = [], 0
    for name, matrix in in_folder(options.matrices) if options.matrices else generated():
        b = matrix @ np.ones(matrix.shape[0])
        begin = time.process_time()
        try:
            result = precond.solve(matrix, b, rtol=TOLERANCE)
            true = residual(matrix, b, result.x)
            solved += true <= TOLERANCE * (1 + 1e-6)
            ours = (f"{true:.1e}", result.status.name, result.method.partition(";")[0])
        except precond.core.PrecondError as error:
            ours = ("", type(error).__name__, str(error).partition(":")[0])
        seconds = time.process_time() - begin
        rows.append((name, f"{matrix.shape[0]}", *ours, f"{1e3 * seconds:.0f}", *rivals_of(matrix, b)))
    head = ("matrix", "unknowns", "residual", "status", "chosen", "ms", "splu", "gmres, spilu", "PyAMG SA, gmres")
    note = f"{solved} of {len(rows)} solved. Right-hand side A times ones, relative residual {TOLERANCE:g} asked."
    return table(head, rows, note)


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"which sections: {', '.join(SECTIONS)}; all unless given")
    parser.add_argument("--side", type=int, default=100, help="side of the grid in sequences")
    parser.add_argument("--systems", type=int, default=50, help="systems in a sequence")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which medians are taken")
    parser.add_argument("--unknowns", type=int, default=250_000, help="unknowns of the Laplacians")
    parser.add_argument("--matrices", type=Path, help="folder of Matrix Market files")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    options = parser.parse_args()
    unknown = set(options.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section named {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    for name in options.sections or SECTIONS:
        text = SECTIONS[name](options)
        print(f"\n{name}: {SECTIONS[name].__doc__}\n\n{text}", flush=True)
        if options.write:
            pages.write(text, NAME.format(section=name), PROGRAM)


if __name__ == "__main__":
    main()
