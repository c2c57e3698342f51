"""Real problems and their loaders."""
