"""The race: tune, run, measure, report."""
