"""In which tensors weights differ from what a network has: a short complaint in the place of torch's long ones."""

from collections.abc import Mapping

from torch import Tensor

_LONGEST_NAME = 100
"""Characters of a tensor's name that are told."""


def misfits(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Say how weights differ from a network's in names and shapes; None if they don't."""
    complaints = []
    if missing := sorted(expected.keys() - weights.keys()):
        complaints.append(f"without {some(missing)}")
    if surplus := sorted(weights.keys() - expected.keys()):
        complaints.append(f"with {some(surplus)} too many")
    for name in sorted(expected.keys() & weights.keys()):
        if weights[name].shape != expected[name].shape:
            shapes = f"{tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
            complaints.append(f"with {name} of shape {shapes}")
            break
    return ", ".join(complaints) or None


def some(names: list[str]) -> str:
    """Return the first names of a list, and how many more it has."""
    return ", ".join(name[:_LONGEST_NAME] for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )
