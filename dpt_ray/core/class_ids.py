"""Class ids: the label of an image without one, and the largest id; apart from `core`, so readers need no torch."""

UNKNOWN_LABEL = -1
"""The label of an image whose true class training must not see."""

MAX_CLASS_ID = 999_999
"""Largest class id that is read from data. Every id from 0 to the largest stands for a class."""
