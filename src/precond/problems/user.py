"""A user's own problem: ``file.py:function``, a function that returns a `Problem`."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from precond.core import BadInputError, Problem
from precond.problems.base import Composite, LeastSquares, LinearSystem, Smooth, Training
from precond.problems.readers.contents import fail, read_bytes

_RETURN = "return precond.problems.Training, Smooth, Composite, LinearSystem or LeastSquares"


def from_file(path: str | Path, function: str) -> Problem:
    """Import a Python file, call one of its functions without arguments and return the problem it returns.

    The folder of the file is put on ``sys.path``, so that it can import its neighbours, also later.

    Args:
        path: The Python file.
        function: Name of the function; empty to be told which there are.

    Returns:
        What the function returned.

    Raises:
        BadInputError: No such file or function, an exception in the file (with its line), or another return type.
    """
    path = Path(path)
    read_bytes(path)
    module = _import(path)
    own = _functions(module)
    if not function:
        fail(path, "no function is named", f"write {path}:FUNCTION; it defines {_listed(own)}")
    make = getattr(module, function, None)
    if make is None:
        near = difflib.get_close_matches(function, own, n=3, cutoff=0.4)
        remedy = f"did you mean {', '.join(near)}?" if near else f"it defines {_listed(own)}"
        fail(path, f"no function {function!r}", remedy)
    if not callable(make):
        fail(path, f"{function!r} is a {type(make).__name__}, not a function", f"make it a function; {_RETURN}")
    try:
        made = make()
    except (Exception, SystemExit) as error:
        _explain(path, error, f"{function}()", "mend the function")
    if not isinstance(made, Training | Smooth | Composite | LinearSystem | LeastSquares):
        line = inspect.unwrap(make).__code__.co_firstlineno if inspect.isfunction(inspect.unwrap(make)) else None
        fail(path, f"{function}() returned a {type(made).__name__}, not a problem", _RETURN, line)
    return made


def _import(path: Path) -> ModuleType:
    """Import the file afresh, under a name that nothing else has."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"precond_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        fail(path, "not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.modules[name] = module
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        _explain(path, error, "the import", "mend the file")
    return module


def _functions(module: ModuleType) -> list[str]:
    """Names of the functions that the file itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) if names else "no function"


def _explain(path: Path, error: BaseException, where: str, remedy: str) -> NoReturn:
    """Raise one line with the last line of the user's file that the exception passed through."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    if line is None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = own[-1] if own else None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    try:
        fail(path, f"{where} raised {type(error).__name__}: {text}", remedy, line)
    except BadInputError as told:
        raise told from error
