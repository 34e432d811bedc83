"""Trained networks as folders that need neither Ray nor this package's runs: written once, loaded in one line."""
