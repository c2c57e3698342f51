"""What a sequence of related systems keeps from one to the next."""
