"""Class ids: the sentinel of unlabelled images, and the largest id. This module does not import torch."""

UNKNOWN_LABEL = -1
"""Sentinel of an image whose true class training must not use."""

MAX_CLASS_ID = 999_999
"""Largest class id that is read from data. Every id from 0 to the largest in the data denotes a class."""
