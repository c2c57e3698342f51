"""The commands ``precond methods`` and ``precond problems``."""

from __future__ import annotations


def methods() -> None:
    """List the methods."""


def problems() -> None:
    """List the problems."""
