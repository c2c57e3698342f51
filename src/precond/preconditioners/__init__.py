"""Preconditioners, one file each."""
