"""Numbers as a reader wants them: as many digits as they deserve."""

from __future__ import annotations

import math

from precond.race.results.records import Interval

NOTHING = "–"

_PLACES = 10
"""Beyond so many places a half width is not written out: seeds that differ by rounding alone."""


def finite(value: float | None) -> float | None:
    """Return the value as a float, or ``None`` when it is missing, infinite or not a number."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def plain(value: object, digits: int = 4) -> str:
    """Write a number with a few significant digits, and anything else as text."""
    if value is None:
        return NOTHING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**9 else _scientific(float(value), digits)
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e7:
        return _scientific(value, digits)
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def interval(value: Interval | None, unit: str = "") -> str:
    """Write ``mean ± half width``, with two significant digits of the half width; only the mean without an interval."""
    mean = None if value is None else finite(value.mean)
    if value is None or mean is None:
        return NOTHING
    suffix = f" {unit}" if unit else ""
    low, high = finite(value.low), finite(value.high)
    if low is None or high is None:
        return plain(mean) + suffix
    half = (high - low) / 2
    if half <= 0:
        return f"{plain(mean)} ± 0{suffix}"
    last = min(math.floor(math.log10(half)) - 1, 0)
    if mean and not 1e-3 <= abs(mean) < 1e7:
        exponent = math.floor(math.log10(abs(mean)))
        places = min(max(exponent - last, 0) if last < 0 else 2, 6)
        scale = 10.0**exponent
        return f"({mean / scale:.{places}f} ± {half / scale:.{places}f})e{exponent}{suffix}"
    if last < -_PLACES:
        return f"{plain(mean)} ± {plain(half, 3)}{suffix}"
    return f"{mean:,.{-last}f} ± {half:,.{-last}f}{suffix}"


def share(value: float | None) -> str:
    """Write a share as a percentage."""
    value = finite(value)
    return NOTHING if value is None else f"{100 * value:.3g} %"


def _scientific(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
    return f"{mantissa}e{int(exponent)}"
