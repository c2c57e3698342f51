"""Who races: recipes and other libraries' methods, by name."""
