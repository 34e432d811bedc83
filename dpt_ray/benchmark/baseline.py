"""Baselines: what a card reached, as a JSON file for each card, and the comparison with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.errors import UserError
from dpt_ray.tables import markdown_table

FORMAT = 1
FOLDER = "docs/results/baselines"
TOLERANCE = 0.05
"""Share by which a figure may be worse than the baseline before it is flagged."""

_CARDS = ("H100", "H200", "A100", "B200", "L40S", "L4", "V100")


@dataclass(frozen=True)
class Figure(Record):
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the figure; None if it was not measured.
        unit: its unit; "" for a ratio.
        more_is_better: whether a larger figure is better.
        goal: what is wanted on one H100; None without a goal.
        note: why it was not measured, or from where the figure comes.
    """

    name: str
    value: float | None
    unit: str
    more_is_better: bool
    goal: float | None = None
    note: str | None = optional()


@dataclass(frozen=True)
class Baseline(Record):
    """The figures of a card.

    Attributes:
        format: version of this form.
        card: name of the card as CUDA tells it, or "cpu" for a rehearsal.
        versions: software -> its version.
        figures: the figures.
        seconds: how long the whole set took, s.
    """

    format: int
    card: str
    versions: dict[str, str]
    figures: list[Figure]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """A figure beside that of the baseline.

    Attributes:
        figure: the figure.
        before: that of the baseline; None if it has none.
        ratio: how good the figure is, as a multiple of the baseline's; above 1 is better. None if one is missing.
    """

    figure: Figure
    before: float | None
    ratio: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the figure is worse than the baseline's by more than `TOLERANCE`, or was not measured now."""
        if self.before is None:
            return False
        return self.ratio is None or self.ratio < 1 - TOLERANCE


def card_file(card: str) -> str:
    """Return the path of a card's baseline, relative to the repository."""
    known = next((name for name in _CARDS if re.search(rf"\b{name}\b", card)), card)
    return f"{FOLDER}/{re.sub(r'[^a-z0-9]+', '-', known.lower()).strip('-')}.json"


def read_baseline(url: str) -> Baseline | None:
    """Return a card's baseline; None if there is none.

    Raises:
        UserError: it is damaged, or of a newer version.
    """
    if not stores.exists(url):
        return None
    fix = "write it again with --write-baseline"
    found = Baseline.from_json(stores.read_json(url), url, "a baseline", fix)
    if found.format != FORMAT:
        raise UserError(f"is a baseline of format {found.format}, but this version knows {FORMAT}", where=url, fix=fix)
    return found


def compare(figures: Sequence[Figure], baseline: Baseline | None) -> list[Comparison]:
    """Compare figures with those of the same names in a baseline."""
    known = {figure.name: figure.value for figure in baseline.figures} if baseline else {}
    return [_compare(figure, known.get(figure.name)) for figure in figures]


def _compare(figure: Figure, before: float | None) -> Comparison:
    if not before or not figure.value:
        return Comparison(figure, before, None)
    return Comparison(figure, before, figure.value / before if figure.more_is_better else before / figure.value)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Return the figures beside baseline and goal as Markdown."""
    rows = [("measurement", "now", "baseline", "now / baseline", "goal on one H100", "")]
    for item in comparisons:
        figure = item.figure
        flag = "SLOWER" if item.is_worse else ""
        rows.append(
            (
                figure.name,
                _text(figure.value, figure.unit) if figure.value is not None else f"not measured: {figure.note}",
                _text(item.before, figure.unit),
                "" if item.ratio is None else f"{item.ratio:.3f}",
                _text(figure.goal, figure.unit),
                flag,
            )
        )
    return markdown_table(rows)


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{number} {unit}".strip()
