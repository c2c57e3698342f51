"""The catalogue of methods, read from what the recipes declare."""
