"""Smooth minimization: forms of objectives, the driver, second-order checks."""
