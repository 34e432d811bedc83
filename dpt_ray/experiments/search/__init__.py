"""Searching for settings: many runs of the method that share what they have in common, on one Ray."""
