"""Filters: averages, momentum, clipping; one file each."""
