"""What the figures of the report have in common, as Plotly's JSON.

Figures are plain dictionaries that ``plotly.graph_objects.Figure`` accepts. Colours are those of the light page; each
trace names the index of its colour in ``meta``, so that the page can recolour it for a dark background. Names are
escaped, because Plotly reads them as markup.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Figure = dict[str, Any]

Figures = dict[str, object]
"""Figures of a page by the identifiers of the elements that they are drawn into."""


def bare_layout(*, height: int) -> dict[str, Any]:
    """Return the layout that every figure begins with."""
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1},
        "dragmode": "zoom",
    }


def gapped(values: Any) -> list[float | None]:
    """Return numbers to six significant digits, more than a screen shows; what is not finite is a gap, ``None``."""
    numbers = (np.nan if value is None else float(value) for value in values)
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in numbers]
