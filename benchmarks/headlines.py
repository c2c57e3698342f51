"""Measures what the recipes claim, scaled down to a minute, and writes it where the catalogue reads it.

    python benchmarks/headlines.py                  measure everything
    python benchmarks/headlines.py soap cg          measure some
    python benchmarks/headlines.py --list           say what is measured for whom

A measurement is a function declared with ``@headline`` for one recipe or several. It returns, for each, a sentence with
its numbers and the numbers themselves. Counts (steps, iterations, evaluations) are used rather than seconds, so that
another machine finds the same. Recipes without a measurement say so in the catalogue.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import platform
from pathlib import Path

import torch

import precond
from headline import HEADLINES, SEEDS, TRIALS, Finding, around, headline, iterations, numbers, race, right_hand_side
from precond.problems.load import load
from precond.recipes.registry import all_recipes

FILE = Path(precond.__file__).parent / "catalogue" / "measured.json"


@headline(
    "sgd", "adamw", "adan", "lion", "muon", "shampoo", "soap", "lean-soap", "asgo", "dasgo", "induced-metric", "lanton",
    "mars-adamw", "mars-lion", "mars-m", "mars-shampoo", "psgd-kron", "scalable-shampoo", "shampoo-squared",
    "turbo-muon",
)  # fmt: skip
def digits() -> dict[str, Finding]:
    """Race on digits: the loss at the end and the steps to the target, against AdamW tuned as carefully."""
    names = [name for name, measure in HEADLINES.items() if measure is digits]
    rows = race("digits", names)
    rival = rows["adamw"]
    findings = {}
    for name, row in rows.items():
        text = f"digits, {TRIALS} trials and {SEEDS} seeds each: validation loss {around(row.final)} after the horizon"
        text += f"; target met by {row.solved} of {row.seeds} seeds"
        text += f" in {row.steps_to_target.mean:.0f} steps" if row.steps_to_target else ""
        if name != "adamw":
            text += f" (AdamW: {around(rival.final)}, {rival.solved} of {rival.seeds}"
            text += f", {rival.steps_to_target.mean:.0f} steps)" if rival.steps_to_target else ")"
        findings[name] = (f"{text}.", numbers(row))
    return findings


@headline("lbfgs", "newton-cg", "regularized-newton", "gradient-normalized")
def logistic() -> dict[str, Finding]:
    """Race on logistic regression: gradients and Hessian products until the target."""
    names = [name for name, measure in HEADLINES.items() if measure is logistic]
    findings = {}
    for name, row in race("logistic", names).items():
        gradients, products = row.work.get("gradients", 0), row.work.get("hvps", 0)
        steps = f"{row.steps_to_target.mean:.0f} steps to the target" if row.steps_to_target else "target not met"
        text = f"logistic regression on breast cancer data, {TRIALS} trials and {SEEDS} seeds: {steps}"
        text += f", a whole run takes {gradients:.0f} gradients and {products:.0f} Hessian products."
        findings[name] = (text, {**numbers(row), "gradients": gradients, "hvps": products})
    return findings


@headline("triple-momentum")
def momenta() -> dict[str, Finding]:
    """Count the gradients of logistic regression to a norm of 1e-8, beside Nesterov's method and gradient descent."""
    import math

    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    features = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    loss = precond.losses.Logistic(features, data.target, ridge=1 / len(features))
    largest = loss.lipschitz()
    condition = largest / loss.ridge
    accelerated = (math.sqrt(condition) - 1) / (math.sqrt(condition) + 1)
    methods = {
        "triple-momentum": precond.recipes.triple_momentum.triple_momentum(condition=condition),
        "nesterov": precond.recipes.first_order.sgd(momentum=accelerated, nesterov=True),
        "descent": precond.recipes.first_order.sgd(momentum=0.0),
    }
    counts = {}
    for name, method in methods.items():
        x0 = torch.zeros(features.shape[1], dtype=torch.float64)
        result = precond.minimize(loss, x0, method=method, lr=1 / largest, tol=1e-8, max_iterations=100_000)
        counts[name] = result.work.gradients if result.converged else -1
    text = (
        f"logistic regression on breast cancer data, condition number {condition:.0f}, to a gradient of 1e-8 with the "
    )
    text += f"learning rate 1 / L: {counts['triple-momentum']} gradients, Nesterov's method {counts['nesterov']}, "
    text += f"gradient descent {counts['descent']}."
    return {"triple-momentum": (text, dict(counts))}


@headline("cg", "identity", "ssor", "ic0")
def poisson() -> dict[str, Finding]:
    """Count the iterations of CG on the Poisson equation, with each preconditioner."""
    matrix = load("poisson2d").matrix
    b = right_hand_side(matrix)
    plain = iterations(matrix, b, "cg", "identity")
    where = f"CG on the 5-point Poisson equation with {matrix.shape[0]} unknowns, relative residual 1e-8"
    alone: Finding = (f"{where}: {plain} iterations.", {"iterations": plain})
    findings = {"cg": alone, "identity": alone}
    for name in ("ssor", "ic0"):
        count = iterations(matrix, b, "cg", name)
        findings[name] = (f"{where}: {count} iterations, {plain} without it.", {"iterations": count, "plain": plain})
    return findings


@headline("jacobi")
def scaled() -> dict[str, Finding]:
    """Count the iterations of CG on a Poisson equation whose rows and columns are badly scaled."""
    import numpy as np
    import scipy.sparse

    matrix = scipy.sparse.csr_array(load("poisson2d:n=40").matrix)
    scale = scipy.sparse.diags_array(10 ** np.random.default_rng(0).uniform(-1, 1, matrix.shape[0]))
    matrix = scipy.sparse.csr_array(scale @ matrix @ scale)
    b = right_hand_side(matrix)
    plain, count = (iterations(matrix, b, "cg", name) for name in ("identity", "jacobi"))
    text = (
        f"CG on a Poisson equation with {matrix.shape[0]} unknowns, each scaled by a random factor between 0.1 and 10"
    )
    return {"jacobi": (f"{text}: {count} iterations, {plain} without it.", {"iterations": count, "plain": plain})}


@headline("gmres")
def convection() -> dict[str, Finding]:
    """Count the iterations of GMRES on a nonsymmetric system."""
    matrix = load("convection-diffusion").matrix
    b = right_hand_side(matrix)
    plain, preconditioned = (iterations(matrix, b, "gmres", p) for p in ("identity", "ssor"))
    text = f"convection-diffusion with {matrix.shape[0]} unknowns, relative residual 1e-8: {plain} iterations"
    return {"gmres": (f"{text}, {preconditioned} with SSOR.", {"iterations": plain, "with_ssor": preconditioned})}


@headline("bicgstab", "fgmres", "block-jacobi", "ilu0", "ilut")
def convected() -> dict[str, Finding]:
    """Count the iterations on a nonsymmetric system: of each method alone, and of GMRES with each preconditioner."""
    matrix = load("convection-diffusion").matrix
    b = right_hand_side(matrix)
    where = f"convection-diffusion with {matrix.shape[0]} unknowns, relative residual 1e-8"
    plain = iterations(matrix, b, "gmres", "identity")
    findings = {}
    for name in ("bicgstab", "fgmres"):
        count = iterations(matrix, b, name, "identity")
        findings[name] = (f"{where}: {count} iterations, GMRES {plain}.", {"iterations": count, "gmres": plain})
    for name in ("block-jacobi", "ilu0", "ilut"):
        count = iterations(matrix, b, "gmres", name)
        text = f"GMRES on {where}: {count} iterations, {plain} without it."
        findings[name] = (text, {"iterations": count, "plain": plain})
    return findings


@headline("lsmr")
def inconsistent() -> dict[str, Finding]:
    """Compare LSMR with LSQR on an inconsistent least-squares problem."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(300, 60, generator=generator, dtype=torch.float64)
    matrix *= torch.logspace(0, -2, 60, dtype=torch.float64)
    b = torch.randn(300, generator=generator, dtype=torch.float64)
    results = [precond.lstsq(matrix, b, method=m, preconditioner="identity", rtol=1e-8) for m in ("lsmr", "lsqr")]
    lsmr, lsqr = (result.iterations if result.converged else -1 for result in results)
    text = f"a dense inconsistent 300 x 60 problem to 1e-8: {lsmr} iterations, LSQR {lsqr}."
    return {"lsmr": (text, {"iterations": lsmr, "lsqr": lsqr})}


@headline("levenberg-marquardt", "trust-region-lm", "geodesic-lm")
def valley() -> dict[str, Finding]:
    """Fit Rosenbrock's two residuals from the classical start, against L-BFGS on half their sum of squares."""

    def residual(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    rival = precond.minimize(lambda x: residual(x).square().sum() / 2, start, method="lbfgs", tol=1e-8)
    findings = {}
    for name in (name for name, measure in HEADLINES.items() if measure is valley):
        result = precond.least_squares(residual, start, method=name)
        error = float((result.x - 1).abs().max())
        text = f"Rosenbrock's residuals from (-1.2, 1): {result.iterations} iterations to an error of {error:.0e}, "
        text += f"L-BFGS on the sum of squares takes {rival.iterations}."
        findings[name] = (text, {"iterations": result.iterations, "error": error, "lbfgs": rival.iterations})
    return findings


@headline("minres")
def indefinite() -> dict[str, Finding]:
    """Count the iterations of MINRES and GMRES on a symmetric indefinite system."""
    import scipy.sparse

    matrix = scipy.sparse.csr_array(load("poisson2d:n=40").matrix)
    shift = 0.2 * float(abs(matrix).max())
    shifted = matrix - shift * scipy.sparse.eye_array(matrix.shape[0])
    b = right_hand_side(matrix)
    minres, gmres = (iterations(shifted, b, method, "identity") for method in ("minres", "gmres"))
    text = f"a Poisson matrix of {matrix.shape[0]} unknowns shifted to be indefinite, relative residual 1e-8: "
    text += f"{minres} iterations; "
    text += f"restarted GMRES takes {gmres}." if gmres > 0 else "restarted GMRES does not get there."
    return {"minres": (text, {"iterations": minres, "gmres": gmres})}


@headline("lsqr")
def least_squares() -> dict[str, Finding]:
    """Compare LSQR with a dense solution on an ill-conditioned problem."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(300, 60, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64)).Q
    matrix = left * torch.logspace(0, -2, 60, dtype=torch.float64) @ right.T
    b = torch.randn(300, generator=generator, dtype=torch.float64)
    result = precond.lstsq(matrix, b, method="lsqr", preconditioner="identity", rtol=1e-10)
    exact = torch.linalg.lstsq(matrix, b[:, None]).solution[:, 0]
    error = float((result.x - exact).norm() / exact.norm())
    text = f"a dense 300 x 60 problem of condition 100: {result.iterations} iterations, relative error {error:.1e}."
    return {"lsqr": (text, {"iterations": result.iterations, "error": error})}


for family in (
    "headlines_linear",
    "headlines_preconditioners",
    "headlines_programs",
    "headlines_composite",
    "headlines_training",
):
    importlib.import_module(family)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", help="which recipes; all unless given")
    parser.add_argument("--list", action="store_true", help="say what is measured for whom")
    options = parser.parse_args()
    if options.list:
        for name in all_recipes():
            measure = HEADLINES.get(name)
            print(f"{name:20} {measure.__doc__ if measure else 'not measured yet'}")
        return
    unknown = set(options.recipes) - HEADLINES.keys()
    if unknown:
        parser.error(
            f"no measurement for {', '.join(sorted(unknown))}; there is one for {', '.join(sorted(HEADLINES))}"
        )
    wanted = options.recipes or list(HEADLINES)
    written = json.loads(FILE.read_text(encoding="utf-8"))
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy")}
    versions["precond"] = precond.__version__
    for measure in dict.fromkeys(HEADLINES[name] for name in wanted):
        for name, (finding, values) in measure().items():
            if name not in wanted:
                continue
            print(f"{name}: {finding}")
            written[name] = {
                "finding": finding, "values": values, "command": f"python benchmarks/headlines.py {name}",
                "date": str(datetime.date.today()), "versions": versions,
            }  # fmt: skip
        FILE.write_text(json.dumps(dict(sorted(written.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
