"""The catalogue of methods, read from what the recipes declare."""

from precond.catalogue.entries import Entry, entries

__all__ = ["Entry", "entries"]
