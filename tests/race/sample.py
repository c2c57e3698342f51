"""A synthetic race, drawn from a seeded generator: every shape of result that a report must survive."""

from __future__ import annotations

import numpy as np
from scipy import stats

from precond.race.results.records import Interval, ProblemResult, Run, Standing
from precond.race.results.result import RaceResult

# name -> (title, decay rate of the metric per step, seconds per step, bytes per parameter)
CONTESTANTS = {
    "soap": ("Adam in Shampoo's eigenbasis", 0.0150, 0.0045, 20.1),
    "muon": ("Orthogonalized momentum", 0.0100, 0.0025, 4.0),
    "adamw": ("Adam with decoupled weight decay", 0.0072, 0.0015, 8.0),
    "lion": ("Sign of interpolated momentum", 0.0060, 0.0012, 4.0),
    "sgd": ("SGD with Nesterov momentum", 0.0028, 0.0010, 4.0),
}


def interval(values: list[float]) -> Interval | None:
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half, len(values))


def run(
    name: str,
    stage: str,
    slot: int,
    rng: np.random.Generator,
    *,
    rate: float,
    pace: float,
    steps: int = 400,
    points: int = 41,
    target: float = 1.6,
    settings: dict | None = None,
    per_step: int = 1,
) -> Run:
    step = np.unique(np.linspace(0, steps, points).astype(int))
    wobble = 1 + 0.03 * rng.standard_normal(len(step))
    rate = rate * (1 + 0.03 * rng.standard_normal())
    metric = (1.2 + 3 * np.exp(-rate * step)) * wobble
    seconds = step * pace * (1 + 0.05 * rng.standard_normal())
    seconds = seconds * np.sign(seconds[-1])
    hit = np.flatnonzero(metric <= target)
    return Run(
        contestant=name,
        stage=stage,
        slot=slot,
        seed=1000 + slot,
        settings=settings or {},
        state="complete",
        score=float(metric[-1]),
        final=float(metric[-1]),
        best=float(metric.min()),
        steps_to_target=int(step[hit[0]]) if len(hit) else None,
        seconds_to_target=float(seconds[hit[0]]) if len(hit) else None,
        steps=int(step[-1]),
        seconds=float(seconds[-1]),
        warmup_seconds=0.4,
        optimizer_share=0.2 + 0.01 * slot,
        state_bytes_per_parameter=4.0,
        work={"losses": 20, "gradients": int(step[-1]) * per_step, "applies": int(step[-1])},
        curve={
            "step": [int(value) for value in step],
            "seconds": seconds.tolist(),
            "gradients": [int(value) * per_step for value in step],
            "metric": metric.tolist(),
        },
    )


NAN = "the loss is NaN at step 7"


def failed(name: str, stage: str, slot: int, settings: dict | None = None, reason: str = NAN) -> Run:
    return Run(
        contestant=name,
        stage=stage,
        slot=slot,
        seed=1000 + slot,
        settings=settings or {},
        state="failed",
        reason=reason,
        steps=7,
        seconds=0.01,
        curve={"step": [0, 5, 7], "seconds": [0.0, 0.008, 0.01], "gradients": [0, 5, 7], "metric": [4.2, 90.0, None]},
    )


def standing(name: str, title: str, runs: list[Run], bytes_: float | None = 4.0) -> Standing:
    tuning = [entry for entry in runs if entry.contestant == name and entry.stage == "tuning"]
    final = [entry for entry in runs if entry.contestant == name and entry.stage == "final"]
    good = [entry for entry in final if entry.state == "complete"]
    met = [entry for entry in good if entry.steps_to_target is not None]
    best = min((entry for entry in tuning if entry.score is not None), key=lambda entry: entry.score, default=None)
    return Standing(
        contestant=name,
        title=title,
        settings=best.settings if best else {},
        space={"lr": "log-uniform from 1e-05 to 0.1", "b1": "uniform from 0.8 to 0.99", "every": "one of 1, 5, 10"},
        trials=len(tuning),
        failed_trials=sum(entry.state == "failed" for entry in tuning),
        seeds=len(final),
        failed_seeds=sum(entry.state == "failed" for entry in final),
        solved=len(met),
        final=interval([entry.final for entry in good]),
        steps_to_target=interval([entry.steps_to_target for entry in met]),
        seconds_to_target=interval([entry.seconds_to_target for entry in met]),
        optimizer_share=float(np.mean([entry.optimizer_share for entry in good])) if good and bytes_ else None,
        state_bytes_per_parameter=bytes_,
        work={key: float(np.mean([entry.work[key] for entry in good])) for key in (good[0].work if good else {})},
    )


def training(seed: int = 0, *, seeds: int = 5, trials: int = 12, contestants: dict | None = None) -> ProblemResult:
    """A training problem: ranked contestants, one that diverges for ever, failed trials, and skips."""
    rng = np.random.default_rng(seed)
    contestants = CONTESTANTS if contestants is None else contestants
    runs = []
    for name, (_, rate, pace, _) in contestants.items():
        for slot in range(trials):
            settings = {
                "lr": float(10 ** rng.uniform(-5, -1)),
                "b1": float(rng.uniform(0.8, 0.99)),
                "every": int(rng.choice([1, 5, 10])),
            }
            off = abs(np.log10(settings["lr"]) + 2.5)
            if settings["lr"] > 0.04:
                runs.append(failed(name, "tuning", slot, settings))
            else:
                runs.append(run(name, "tuning", slot, rng, rate=rate / (1 + off), pace=pace, settings=settings))
        final = [run(name, "final", slot, rng, rate=rate, pace=pace) for slot in range(seeds)]
        runs += final
    lost = "adan"
    runs += [failed(lost, "tuning", slot, {"lr": 0.5, "b1": 0.9, "every": 1}) for slot in range(trials)]
    runs += [failed(lost, "final", slot) for slot in range(seeds)]
    standings = [standing(name, title, runs, size) for name, (title, _, _, size) in contestants.items()]
    standings.append(standing(lost, "Adaptive Nesterov momentum", runs, 12.0))
    return ProblemResult(
        name="stdlib-lm",
        kind="training",
        description="A small byte-level GPT on the text of Python's own standard library.",
        metric="validation loss",
        unit="nats per byte",
        log=False,
        target=1.6,
        budget="400steps",
        standings=standings,
        runs=runs,
        skipped={"cg": "solves linear systems, and stdlib-lm is a training problem; race it on poisson2d"},
    )


def linear(seed: int = 1, *, seeds: int = 4) -> ProblemResult:
    """A linear system: logarithmic metric, runs that stop at different lengths, no optimizer state."""
    rng = np.random.default_rng(seed)
    runs = []
    for name, length in {"cg+ic": 60, "cg+ssor": 90, "cg": 210, "soap": 600}.items():
        for slot in range(seeds):
            steps = int(length * (1 + 0.02 * rng.standard_normal()))
            step = np.arange(steps + 1)
            metric = 10 ** (-8.05 * step / steps + 0.1 * rng.standard_normal(steps + 1) * (step > 0) * (step < steps))
            hit = np.flatnonzero(metric <= 1e-8) if name != "soap" else []
            seconds = step * 2e-4 * (1 + 0.02 * slot)
            runs.append(
                Run(
                    contestant=name,
                    stage="final",
                    slot=slot,
                    seed=slot,
                    state="complete",
                    final=float(metric[-1]),
                    best=float(metric.min()),
                    steps_to_target=int(hit[0]) if len(hit) else None,
                    seconds_to_target=float(seconds[hit[0]]) if len(hit) else None,
                    steps=steps,
                    seconds=float(seconds[-1]),
                    optimizer_share=None,
                    work={"matvecs": steps, "applies": steps},
                    curve={
                        "step": step.tolist(),
                        "seconds": seconds.tolist(),
                        "gradients": step.tolist(),
                        "metric": metric.tolist(),
                    },
                )
            )
    names = ["cg+ic", "cg+ssor", "cg", "soap"]
    return ProblemResult(
        name="poisson2d",
        kind="linear-system",
        description="The five-point Laplacian on a square grid.",
        metric="relative residual",
        unit="",
        log=True,
        target=1e-8,
        budget="2000steps",
        standings=[standing(name, "", runs, None) for name in names],
        runs=runs,
        skipped={"muon": "is a nonlinear map, and cg needs a fixed linear preconditioner"},
    )


def race(seed: int = 0, *, problems: int = 2, complete: bool = True) -> RaceResult:
    """A race on one or two problems."""
    return RaceResult(
        problems=[training(seed), linear(seed + 1)][:problems],
        options={"methods": [*CONTESTANTS, "adan"], "trials": 12, "seeds": 5, "budget": "400steps", "jobs": 2},
        complete=complete,
        created="2026-01-02T03:04:05+00:00",
        command="precond race stdlib-lm poisson2d --trials 12",
        machine={"processor": "An imaginary processor", "cores": "2", "memory": "8 GiB", "system": "Linux"},
        versions={"python": "3.11.2", "torch": "2.13.0", "precond": "0.1.0"},
    )
