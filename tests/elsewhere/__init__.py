"""A device that only pretends, and what must hold on it: what runs on a GPU is checked where there is none."""
