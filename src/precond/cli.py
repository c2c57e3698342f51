"""The command line: one table of commands, each loaded only when it is called.

Listing the commands must stay quick, so their modules (and torch behind them) are imported only for the
command that runs. Every error that the library raises on purpose ends as one line and exit code 2.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from precond import __version__

COMMANDS = {
    "race": ("precond.race.command", "race", "Race methods on a problem, each tuned as carefully as the others."),
    "solve": ("precond.solving.command", "solve", "Solve a system from Matrix Market files, with a certificate."),
    "methods": ("precond.catalogue.command", "methods", "List the methods: paper, claim, needs, memory, how to call."),
    "problems": ("precond.catalogue.command", "problems", "List the problems that can be raced."),
}
"""Name of each command: where it lives, and its line in the list of commands."""

EPILOG = """
[bold]Examples[/bold]

  precond race                              [dim]the default race, under 3 minutes[/dim]

  precond race digits --methods adamw,soap  [dim]choose problem and methods[/dim]

  precond race A.mtx.gz --methods cg,cg+ic0 [dim]a matrix of your own[/dim]

  precond race my.py:problem --resume       [dim]a problem of your own, continued[/dim]

  precond solve A.mtx.gz --out x.mtx        [dim]solve a system from a file[/dim]

  precond methods --search "sparse matrix"  [dim]which method fits[/dim]

  precond problems                          [dim]what there is to race on[/dim]

  precond COMMAND --help                    [dim]its options and examples[/dim]
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong input, 130 interrupted.

    Args:
        arguments: The words after ``precond``; those of the process unless given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in words if not word.startswith("-")), "")
    try:
        _app(called)(words, prog_name="precond")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        from precond.core.extras import missing

        if not (message := missing(error)):
            raise
        _say(message)
        sys.exit(2)


def _app(called: str) -> typer.Typer:
    """Build the command line with the real command ``called`` and one-line stand-ins for the others."""
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    app.callback(epilog=EPILOG)(_global_options)
    for name, (module, attribute, line) in COMMANDS.items():
        if name == called:
            command = getattr(importlib.import_module(module), attribute)
            epilog = getattr(importlib.import_module(module), f"{attribute.upper()}_EPILOG", None)
            app.command(name, epilog=epilog)(_reporting(command))
        else:
            app.command(name, help=line)(_elsewhere)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"precond {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log details and show tracebacks of errors.")] = False,
) -> None:
    """Race preconditioned methods on the problem you have: optimizers, linear solvers, second-order methods."""
    if debug:
        os.environ["PRECOND_DEBUG"] = "1"
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("matplotlib").setLevel(logging.WARNING)


def _elsewhere() -> None:
    """Stand in for a command that is not called."""


def _reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command so that its errors become one line and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise  # whoever reads has seen enough: no word about it
        except Exception as error:
            from precond.core.errors import PrecondError  # imports torch, hence not before there is an error

            if os.environ.get("PRECOND_DEBUG") or not isinstance(error, PrecondError | OSError):
                raise
            if isinstance(error, PrecondError):
                _say(str(error))
                raise typer.Exit(2) from None
            what, why = error.filename or "output", error.strerror or error
            _say(f"{what}: cannot be written or read ({why}); check the disk")
            raise typer.Exit(1) from None

    return run


def _say(message: str) -> None:
    """Print one red line on stderr."""
    typer.secho(f"error: {' '.join(message.split())}", fg=typer.colors.RED, err=True)


if __name__ == "__main__":
    main()
