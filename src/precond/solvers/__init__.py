"""Drivers, one per class of problem."""
