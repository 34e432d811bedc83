"""Damaged and forged inputs for every reader: a corpus made in code, mutators that know the formats, and the readers.

`fuzz.py` beside this folder runs it.
"""
