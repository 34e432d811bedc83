"""How a state dict differs from that of a network, in a line: torch's own messages list every tensor."""

from collections.abc import Mapping

from torch import Tensor

_LONGEST_NAME = 100
"""Number of characters of a tensor's name in a message."""


def describe_mismatch(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Return in words how names and shapes of `weights` differ from `expected`; None if they agree."""
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
    """Return the first names of a list in words, and the number of the others."""
    return ", ".join(name[:_LONGEST_NAME] for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )
