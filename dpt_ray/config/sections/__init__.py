"""The sections of a run's settings, a file for each group."""
