"""Search spaces as Optuna knows them, so that its dashboards show the trials of a race too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from precond.core import Choice, LogUniform, Range, Uniform


def shown(settings: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """Return the settings that Optuna is told of."""
    return {name: settings[name] for name in distributions(settings, space)}


def distributions(
    settings: Mapping[str, Any], space: Mapping[str, Range]
) -> dict[str, optuna.distributions.FloatDistribution | optuna.distributions.CategoricalDistribution]:
    """Return the ranges as Optuna knows them, so that its dashboards show the trials too."""
    known: dict[str, optuna.distributions.FloatDistribution | optuna.distributions.CategoricalDistribution] = {}
    for name, value in settings.items():
        dimension = space.get(name)
        if isinstance(dimension, Choice) and value in dimension.values:
            known[name] = optuna.distributions.CategoricalDistribution(tuple(dimension.values))
        elif isinstance(dimension, (LogUniform, Uniform)):
            low, high = min(dimension.low, value), max(dimension.high, value)
            log = isinstance(dimension, LogUniform)
            if not log or low > 0:
                known[name] = optuna.distributions.FloatDistribution(low, high, log=log)
    return known
