"""Readers of file formats: each returns plain arrays, or one line that says what is wrong where."""
