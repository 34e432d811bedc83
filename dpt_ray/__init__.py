"""Dual pseudo training as one Ray-distributed system: better classifiers and image generators from few labels."""

__version__ = "0.1.0"
