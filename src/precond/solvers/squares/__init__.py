"""Nonlinear least squares: forms of residuals, Jacobians, attempts and certificates."""
