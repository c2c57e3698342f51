"""The convergence of a run as a PNG file, drawn with Matplotlib and without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from precond.core import Result, require


def draw_convergence(result: Result, b: np.ndarray[Any, Any], rtol: float, title: str, path: Path) -> None:
    """Draw the method's own residual norm after each iteration, and the certified residual at its end.

    Args:
        result: The run.
        b: Right-hand sides, shape ``[m]`` or ``[m, k]``; norms are shown relative to the largest.
        rtol: The tolerance asked for, drawn as a line.
        title: Title of the picture.
        path: The PNG file.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure")
    backend = require("matplotlib.backends.backend_agg")
    scale = float(np.linalg.norm(b, axis=0).max()) or 1.0
    history = np.array(result.history) / scale
    figure = figure_module.Figure(figsize=(7, 4.2), layout="constrained")
    backend.FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = np.where(history > 0, history, np.nan)  # zero has no place on a logarithmic axis
    axes.semilogy(np.arange(len(history)), shown, color="#1f77b4", label="residual of the method")
    certified = result.certificate.extra.get("relative residual", result.certificate.value)
    if certified > 0:
        axes.semilogy([max(len(history) - 1, 0)], [certified], "o", color="#d62728", label="certified")
    axes.axhline(rtol, color="#7f7f7f", linestyle="--", linewidth=1, label="asked")
    axes.set(xlabel="iteration", ylabel="relative residual", title=f"{title}: {result.method.partition(' (')[0]}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")
