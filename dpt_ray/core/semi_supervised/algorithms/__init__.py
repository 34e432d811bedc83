"""The menu: one semi-supervised algorithm a file, found by the file's name (`core/semi_supervised/registry.py`)."""
