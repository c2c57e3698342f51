"""Sequences of linear systems: ways that learn, recycling, learned relaxation, multigrid kept."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.io
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
import precond.scipy
from linear_measure import (
    SECTIONS,
    TOLERANCE,
    Account,
    Counted,
    System,
    Way,
    in_sequence,
    in_turns,
    inverse,
    our_sequence,
    residual,
)
from precond.krylov import SOR
from precond.operators import as_operator
from precond.preconditioners.ilu0 import ILU0
from precond.problems.load import load
from precond.solvers.sequences.bandits import ChebCB, Learner, TsallisINF
from precond.solvers.systems.counted import CountedOperator
from sections import table


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


def porous(side: int, count: int) -> Iterable[System]:
    """Yield Darcy flow, scaled: the logarithm of the permeability is a random trigonometric sum about a mean."""
    generator = np.random.default_rng(0)
    centres = (np.arange(side) + 0.5) / side
    waves = np.cos(np.pi * np.outer(np.arange(6), centres))
    mean = generator.standard_normal((6, 6))
    decay = 1.5 / np.sqrt(1 + np.add.outer(np.arange(6) ** 2, np.arange(6) ** 2))
    along = scipy.sparse.diags_array([np.full(side, -1.0), np.ones(side)], offsets=[0, 1], shape=(side, side + 1)).T
    gradient = scipy.sparse.vstack([scipy.sparse.kron(along, np.eye(side)), scipy.sparse.kron(np.eye(side), along)])
    for _ in range(count):
        permeability = np.exp(waves.T @ (decay * (mean + 0.3 * generator.standard_normal((6, 6)))) @ waves)
        faces = []
        for k in (np.pad(permeability, ((1, 1), (0, 0)), "edge"), np.pad(permeability, ((0, 0), (1, 1)), "edge")):
            first, second = (k[:-1], k[1:]) if k.shape[0] > k.shape[1] else (k[:, :-1], k[:, 1:])
            faces.append((2 * first * second / (first + second)).ravel())
        matrix = scipy.sparse.csr_array(gradient.T @ scipy.sparse.diags_array(np.concatenate(faces)) @ gradient)
        scale = scipy.sparse.diags_array(matrix.diagonal() ** -0.5)
        yield scipy.sparse.csr_array(scale @ matrix @ scale), generator.standard_normal(side**2)


SEEDS = 5  # of the learners' draws
LEARNERS: dict[type[Learner], dict[str, float]] = {TsallisINF: {}, ChebCB: {"low": -0.15, "high": 0.45}}
FAMILIES = {"wind that turns": drifting, "wind drawn about a mean": drawn, "wind from everywhere": unrelated}


@SECTIONS.section
def sequence(options: argparse.Namespace) -> str:
    """Sequences of related systems: one object for all against the rivals' ways."""
    import scipy.sparse.linalg as sl

    rows = []
    our_sequence(list(drawn(12, 8)))  # compiles
    for family, make in FAMILIES.items():
        systems = list(make(options.side, options.systems))
        M = inverse(ILU0(), systems[0][0])
        ours = precond.SolveSequence(rtol=TOLERANCE)
        ways: dict[str, Way] = {
            "precond.SolveSequence()": lambda A, b, ours=ours: ours.solve(A.matrix, b).x,
            "SciPy bicgstab, our ILU(0) of the first": lambda A, b, M=M: sl.bicgstab(A, b, rtol=TOLERANCE / 2, M=M)[0],
            "SciPy splu, each": lambda A, b: sl.splu(A.matrix.tocsc()).solve(b),
        }
        if not options.best_rivals:
            ways["SciPy gcrotmk, cold"] = lambda A, b: sl.gcrotmk(A, b, rtol=TOLERANCE)[0]
            ways["SciPy gcrotmk, our ILU(0) of the first"] = lambda A, b, M=M: sl.gcrotmk(A, b, rtol=TOLERANCE, M=M)[0]
        accounts = in_turns(systems, ways)
        own = accounts.pop("precond.SolveSequence()")
        own.products = ours.work.matvecs
        best = min(account.seconds for account in accounts.values() if account.worst <= 2 * TOLERANCE)
        accounts["precond.SolveSequence()"] = own
        for name, account in accounts.items():
            rows.append((
                family, name, f"{1e3 * account.seconds / len(systems):.1f}", f"{account.products / len(systems):.1f}",
                f"{account.worst:.1e}", f"{best / account.seconds:.2f}",
            ))  # fmt: skip
        measured = "; ".join(f"{label}: {1e3 * cost:.1f} ms" for label, cost in ours.report if cost is not None)
        rows.append((family, f"measured by it: {measured}", "", "", "", ""))
    head = ("family", "way", "ms a system", "products a system", "worst residual", "best rival / this")
    note = (
        f"{options.systems} systems of {options.side**2} unknowns, each solved in every way before the next; relative "
    )
    note += f"residual {TOLERANCE:g}."
    return table(head, rows, note)


@SECTIONS.section
def recycling(options: argparse.Namespace) -> str:
    """Recycling without a preconditioner: products of GMRES(40), GCRO-DR cold and in a sequence, and of gcrotmk."""
    side, count, iteration = min(options.side, 40), min(options.systems, 20), precond.krylov.GCRODR(40, 20)
    rows = []
    for family, make in (FAMILIES | {"Darcy flow": porous}).items():
        systems = list(make(side, count))
        accounts = {
            "SciPy gcrotmk, cold": in_sequence(
                systems, lambda A, b: scipy.sparse.linalg.gcrotmk(A, b, rtol=TOLERANCE)[0]
            )
        }
        for label, method, warm in (
            ("GMRES(40)", precond.krylov.GMRES(40), False),
            ("GCRO-DR(40, 20) in a sequence", iteration, False),
            ("GCRO-DR(40, 20) in a sequence, warm", iteration, True),
        ):
            accounts[label], _ = our_sequence(systems, method=method, preconditioner="identity", warm=warm)
        accounts["GCRO-DR(40, 20), always recycled"] = always_recycled(systems, iteration)
        cold = Account(0.0, 0, 0.0)
        for system in systems:
            one, _ = our_sequence([system], method=iteration, preconditioner="identity")
            cold = Account(cold.seconds + one.seconds, cold.products + one.products, max(cold.worst, one.worst))
        accounts["GCRO-DR(40, 20), cold"] = cold
        sorted_ = precond.SolveSequence(rtol=TOLERANCE, method=iteration, preconditioner="identity", warm=False)
        results = sorted_.solve_all(systems)
        accounts["GCRO-DR(40, 20) in a sequence, sorted as in SKR"] = Account(
            0.0, sorted_.work.matvecs, max(residual(*system, r.x) for system, r in zip(systems, results, strict=True))
        )
        rows += [
            (family, name, f"{account.products / count:.1f}", f"{account.worst:.1e}")
            for name, account in accounts.items()
        ]
    note = f"{count} systems of {side**2} unknowns, relative residual {TOLERANCE:g}."
    return table(("family", "way", "products a system", "worst residual"), rows, note)


def always_recycled(systems: list[System], iteration: precond.krylov.GCRODR) -> Account:
    """Hand the space on from each system to the next, whether that pays or not."""
    account, memory = Account(0.0, 0, 0.0), iteration.memory()
    for matrix, b in systems:
        work, rows = precond.core.Work(), torch.from_numpy(b)[None]
        running = iteration.recycle(
            memory, CountedOperator(as_operator(matrix), work), rows, torch.clone, torch.zeros_like(rows)
        )
        bound = TOLERANCE * np.linalg.norm(b)
        progress = next(step for step in running if float(step.residual) <= bound)
        account.products += work.matvecs
        account.worst = max(account.worst, residual(matrix, b, progress.solution()[0].numpy()))
    return account


@SECTIONS.section
def relaxation(options: argparse.Namespace) -> str:
    """Learned relaxation of SOR against fixed ones, on shifted Laplacians as in *Learning to relax*."""
    count, grid = 12 * options.systems, (1.0, 1.2, 1.4, 1.6, 1.65, 1.8)
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
        rows += [(variance, f"fixed {w}", f"{value:.1f}", f"{value - least:+.1f}", "") for w, value in fixed.items()]
        for learner, arguments in LEARNERS.items():
            runs = []
            for seed in range(SEEDS):
                one = precond.SolveSequence(method="sor", omega=learner(**arguments, seed=seed), warm=False, **limits)
                runs.append((mean(lambda A, b, c, one=one: one.solve(A, b, context=float(c))), one.regret / count))
            spent, said = zip(*runs, strict=True)
            value = f"{statistics.mean(spent):.1f} ({min(spent):.1f} to {max(spent):.1f})"
            true, said = statistics.mean(spent) - least, statistics.mean(said)
            rows.append((variance, learner.__name__, value, f"{true:+.1f}", f"{said:+.1f}"))
    note = f"{count} systems, 5-point Laplacian of 100 unknowns plus a random shift, relative residual {TOLERANCE:g}; "
    note += f"means over {SEEDS} seeds of the draws, and their range."
    head = ("variance of the shift", "omega", "mean iterations", "beyond the best fixed", "as `sequence.regret` says")
    return table(head, rows, note)


@SECTIONS.section
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
