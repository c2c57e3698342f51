"""Steps of Krylov iterations: vectors, recurrences, and many steps of one system compiled into one call."""
