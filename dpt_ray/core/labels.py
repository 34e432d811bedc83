"""The label that says nothing; apart from the rest of `core`, so that readers need not load torch for it."""

UNKNOWN_LABEL = -1
"""The label of an image whose true class training must not see."""
