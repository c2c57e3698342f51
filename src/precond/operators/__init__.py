"""Linear operators, one file each."""
