"""Hyperparameter search: many runs of the method on one Ray, which share the artifacts that they have in common."""
