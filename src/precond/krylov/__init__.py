"""Iterations for linear systems and least squares, one file each."""
