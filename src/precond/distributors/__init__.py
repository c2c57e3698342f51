"""Distributors: where parameters live and who computes them; one file each."""
