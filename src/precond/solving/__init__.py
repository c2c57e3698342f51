"""Solving a system from files: the command ``precond solve``."""
