"""Sparse matrices on the CPU: products, orders, complete and incomplete factors, sweeps and multigrid cycles."""
