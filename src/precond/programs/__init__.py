"""Iterations for nonlinear programs, and the parts they are made of."""
