"""Factors, roots and bases of batches of small dense matrices, which survive bad members."""
