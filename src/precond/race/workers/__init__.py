"""Processes that take jobs from a ledger and run them."""
