"""``precond race`` on the command line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

RACE_EPILOG = """
[bold]Examples[/bold]

  precond race                               [dim]eight optimizers on digits[/dim]

  precond race digits --methods adamw,soap   [dim]who races[/dim]

  precond race stdlib-lm --budget 120s       [dim]a horizon in seconds[/dim]

  precond race A.mtx.gz --methods cg,cg+ic0  [dim]a matrix of yours[/dim]

  precond race my.py:problem --out my-race   [dim]a function of yours[/dim]

  precond race --resume --seeds 10           [dim]go on, with more seeds[/dim]

  precond race --storage postgresql://host/db --resume  [dim]join from anywhere[/dim]

A race that is interrupted or killed loses no finished run: [bold]--resume[/bold] goes on.

[bold]precond methods[/bold] lists who can race, [bold]precond problems[/bold] on what.
"""


def race(
    problem: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROBLEM]...",
            help="What to race on: a name, a file, or file.py:function; several are separated by commas or spaces. "
            "[dim]default: digits[/dim]",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Contestants, separated by commas: adamw, cg+ic0, and rivals such as torch.optim.AdamW, scipy.cg. "
            "[dim]default: those of the problem's kind[/dim]",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Tuning trials of each contestant. [dim]default: 8[/dim]", show_default=False),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Fresh seeds for the tuned setting. [dim]default: 5[/dim]", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Horizon of one run: 500steps, 120s, 2min. [dim]default: the problem's own[/dim]", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report and of the ledger.")] = Path("race-report"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the race in the folder, or join it.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Runs at once, each in a process of its own with its share of the cores. "
            "[dim]default: 2; 1 on a single core or with cuda[/dim]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. [dim]default: cpu[/dim]", show_default=False)] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of an Optuna storage that several machines share.", show_default=False),
    ] = None,
) -> None:
    """Race methods on a problem: which one wins here, and by how much, if each is tuned as carefully as the others?

    Every contestant gets the same number of tuning trials, then its best setting is rerun over fresh seeds.

    The report is OUT/report.html, one file that opens offline; the numbers are in OUT/results.json.
    """
    from precond.core.terminal import console
    from precond.race import folder, harness, live
    from precond.race.machine import usual_jobs

    terminal = console()
    try:
        result = harness.run(
            problem or None, methods, trials=trials, seeds=seeds, budget=budget, out=out, resume=resume,
            jobs=usual_jobs(device) if jobs is None else jobs, device=device, storage=storage, progress=True,
            command=shlex.join(["precond", *sys.argv[1:]]),
        )  # fmt: skip
    except KeyboardInterrupt:
        place = f" --out {shlex.quote(str(out))}" if out != Path("race-report") else ""
        shared = f" --storage {shlex.quote(storage)}" if storage else ""
        terminal.print(f"interrupted; every finished run is kept. Go on with: precond race --resume{place}{shared}",
                       highlight=False, soft_wrap=True)  # fmt: skip
        raise typer.Exit(130) from None
    for entry in result.problems:
        terminal.print(live.table(entry))
        terminal.print()
    terminal.print(f"report: {out / folder.REPORT}", highlight=False, soft_wrap=True)
