"""One dense matrix: what is known of it, its factors, and systems solved with them."""
