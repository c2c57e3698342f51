"""Many systems at once: batches, right-hand sides, and gradients through a solution."""

from __future__ import annotations

import argparse
import time
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
    applied,
    medians,
    repeated,
    residual,
)
from precond.operators import as_operator
from precond.preconditioners.ic0 import IC0
from precond.problems.load import load
from sections import table


def spectra(order: int) -> Iterable[tuple[str, np.ndarray]]:
    """Yield kinds of definite matrices by their eigenvalues."""
    yield "condition 2", np.linspace(0.5, 1, order)
    yield "condition 10", np.linspace(0.1, 1, order)
    yield "condition 1000", np.geomspace(1e-3, 1, order)


@SECTIONS.section
def batches(options: argparse.Namespace) -> str:
    """Batches of dense definite systems: one call against loops and batched factorizations."""
    members, order = options.members, options.order
    rng, rows = np.random.default_rng(0), []
    few = np.linalg.qr(rng.standard_normal((min(members, 8), order, order)))[0]
    for kind, values in spectra(order):
        A = np.stack([(q * values) @ q.T for q in few] * -(-members // len(few)))[:members]
        A, b = (A + A.transpose(0, 2, 1)) / 2, rng.standard_normal((members, order))
        At, bt = torch.from_numpy(A), torch.from_numpy(b)
        found: dict[str, np.ndarray] = {}

        def keep(name: str, solve: Callable[[], Any], found: dict[str, np.ndarray] = found) -> Callable[[], None]:
            return lambda: found.__setitem__(name, np.asarray(solve()).reshape(members, order))

        contestants = {
            name: keep(name, solve)
            for name, solve in {
                "SciPy, cho_factor in a loop": lambda A=A, b=b: [
                    scipy.linalg.cho_solve(scipy.linalg.cho_factor(a), v) for a, v in zip(A, b, strict=True)
                ],
                "torch.linalg.cholesky": lambda At=At, bt=bt: torch.cholesky_solve(
                    bt[..., None], torch.linalg.cholesky(At)
                ),
                "torch.linalg.solve": lambda At=At, bt=bt: torch.linalg.solve(At, bt),
                "NumPy, solve": lambda A=A, b=b: np.linalg.solve(A, b[..., None]),
                "precond.solve(A, b)": lambda A=A, b=b: precond.solve(A, b, rtol=TOLERANCE).x,
                "precond.solve(A, b, method='cg')": lambda A=A, b=b: (
                    precond.solve(A, b, method="cg", preconditioner="identity", rtol=TOLERANCE).x
                ),
            }.items()
        }
        times = medians(contestants, min(options.rounds, 3))
        best = min(seconds for name, seconds in times.items() if not name.startswith("precond"))
        for name, seconds in times.items():
            worst = max(residual(a, v, x) for a, v, x in zip(A, b, found[name], strict=True))
            rows.append((kind, name, f"{seconds:.3f}", f"{worst:.1e}", f"{best / seconds:.2f}"))
    note = f"{members} systems of {order} unknowns, float64, relative residual {TOLERANCE:g} asked."
    return table(("matrices", "way", "seconds", "worst residual", "best rival / this"), rows, note)


@SECTIONS.section
def columns(options: argparse.Namespace) -> str:
    """Sixteen right-hand sides: products, applications of IC(0) and solutions together, in units of one."""
    rows = []
    for name in ("poisson2d:n=100", "poisson2d:n=300", "poisson3d:n=40"):
        matrix = scipy.sparse.csr_array(load(name).matrix)
        operator, n = as_operator(matrix), matrix.shape[0]
        B = np.random.default_rng(0).standard_normal((n, 16))
        C = torch.from_numpy(B)
        X, apply = C.mT.contiguous(), applied(IC0(), matrix, 16)
        tensor = torch.sparse_csr_tensor(
            *(torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)), matrix.shape
        )
        times = medians({
            "one": repeated(lambda operator=operator, X=X: operator.matvec(X[:1])),
            "side": repeated(lambda operator=operator, C=C: operator.matvec(C.mT)),
            "rows": repeated(lambda operator=operator, X=X: operator.matvec(X)),
            "SciPy": repeated(lambda matrix=matrix, B=B: matrix @ B),
            "torch": repeated(lambda tensor=tensor, C=C: tensor @ C),
            "IC(0)": repeated(lambda apply=apply, X=X: apply(X[:1])),
            "IC(0) side": repeated(lambda apply=apply, C=C: apply(C.mT)),
            "IC(0) rows": repeated(lambda apply=apply, X=X: apply(X)),
        }, options.rounds)  # fmt: skip
        products = [f"{times[key] / times['one']:.1f}" for key in ("side", "rows", "SciPy", "torch")]
        applications = [f"{times[key] / times['IC(0)']:.1f}" for key in ("IC(0) side", "IC(0) rows")]
        solve = {
            "alone": lambda matrix=matrix, B=B: [
                precond.solve(matrix, v, method="cg", preconditioner="ic0") for v in B.T
            ],
            "cg": lambda matrix=matrix, B=B: precond.solve(matrix, B, method="cg", preconditioner="ic0"),
            "block": lambda matrix=matrix, B=B: precond.solve(matrix, B, method="block-cg", preconditioner="ic0"),
        }
        seconds = medians(solve, 1)
        solutions = [f"{seconds['alone'] / seconds[key]:.2f}" for key in ("cg", "block")]
        rows.append((name, f"{n}", *products, *applications, *solutions))
    head = (
        "matrix", "unknowns", "16 products / one", "column-major", "SciPy's", "torch's",
        "16 IC(0) / one", "column-major", "16 solves / cg of 16", "16 solves / block-cg of 16",
    )  # fmt: skip
    note = (
        "Products of ours, of SciPy and of torch with an array of 16 columns in C order, as solves keep them, in units "
        "of one of ours; 'column-major': each vector contiguous, which takes a transposition there and back. CG with "
        f"IC(0) to {TOLERANCE:g}; medians."
    )
    return table(head, rows, note)


@SECTIONS.section
def gradients(options: argparse.Namespace) -> str:
    """Gradients through a solution: what the backward pass costs, and how exact it is."""
    side, rows = min(options.side, 100), []
    for name in (f"poisson2d:n={side}", f"convection-diffusion:n={side},peclet=50,angle=30"):
        matrix = scipy.sparse.csr_array(load(name).matrix)
        tensor = torch.sparse_csr_tensor(
            *(torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)), matrix.shape
        )
        b = torch.from_numpy(np.random.default_rng(0).standard_normal(matrix.shape[0]))
        weights = torch.from_numpy(np.random.default_rng(1).standard_normal(matrix.shape[0]))
        state: dict[str, Any] = {}

        def forward(tensor: Any = tensor, b: Any = b, state: dict[str, Any] = state) -> None:
            state["A"], state["b"] = tensor.clone().requires_grad_(), b.clone().requires_grad_()
            state["x"] = precond.solve(state["A"], state["b"], rtol=TOLERANCE).x

        def backward(weights: Any = weights, state: dict[str, Any] = state) -> None:
            forward()
            begin = time.process_time()
            (state["x"] * weights).sum().backward()
            state["seconds"] = time.process_time() - begin

        plain = medians({"solve": lambda tensor=tensor, b=b: precond.solve(tensor, b, rtol=TOLERANCE)}, options.rounds)
        seconds = medians({"both": backward}, options.rounds)["both"]
        y = scipy.sparse.linalg.spsolve(matrix.T.tocsc(), weights.numpy())
        x = scipy.sparse.linalg.spsolve(matrix.tocsc(), b.numpy())
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        exact = -y[row] * x[matrix.indices]
        errors = [
            float(np.linalg.norm(found - want) / np.linalg.norm(want))
            for found, want in ((state["b"].grad.numpy(), y), (state["A"].grad.values().numpy(), exact))
        ]
        rows.append((
            name, f"{1e3 * plain['solve']:.1f}", f"{1e3 * seconds:.1f}", *(f"{error:.1e}" for error in errors)
        ))  # fmt: skip
    head = ("matrix", "solve, ms", "with gradients, ms", "error of b's gradient", "error of the matrix's gradient")
    return table(head, rows, "Sparse CSR tensors; errors relative to direct solves.")
