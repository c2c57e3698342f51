"""Nonlinear programs: forms of constraints, the driver, second-order checks."""
