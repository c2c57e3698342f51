"""Published methods, each a short composition of parts. One file per family."""
