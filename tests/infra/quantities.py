"""Kubernetes' quantities as numbers."""

from decimal import Decimal

_UNITS = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)} | {
    unit: Decimal(2 ** (10 * power)) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)
}


def quantity(text: str | int) -> Decimal:
    """Return a quantity such as 500m, 16Gi or 4 in its base unit.

    Raises:
        ValueError: it is none.
    """
    digits = str(text).rstrip("".join(_UNITS))
    unit = str(text)[len(digits) :]
    if unit not in _UNITS or not digits.replace(".", "", 1).isdigit():
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(digits) * _UNITS[unit]
