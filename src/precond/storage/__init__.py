"""Ways for state tensors to rest between steps, one file each."""
