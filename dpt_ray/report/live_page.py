"""The page of a run while it runs, or that ended without a report; its words stand in `templates/live.html.j2`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpt_ray.report.content import Curve, Figure
from dpt_ray.report.page_templates import Column, Table, render_page

if TYPE_CHECKING:
    from dpt_ray.report.canvas import Panel


@dataclass(frozen=True)
class LiveStep:
    """A step of a run.

    Attributes:
        title: what the step does.
        state: `waiting`, `running` with the share that is done, `reused` or `done`.
        result: what it says of its result; empty before.
    """

    title: str
    state: str
    result: str = ""


@dataclass(frozen=True)
class LivePicture:
    """What a network makes while it is trained.

    Attributes:
        title: the training.
        caption: how far it is.
        png: content of a PNG file.
    """

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class LiveReport:
    """All of the page.

    Attributes:
        title: names the run.
        created: ISO 8601 time of this state, UTC.
        headline: state, duration and steps.
        refresh_seconds: the browser loads the page again after so many seconds; None for a run that ended.
        steps: in the order in which they are made.
        curves: of the trainings as far as they are.
        pictures: the newest of each training that draws some.
        notes: warnings, and the error of a run that failed.
        settings_yaml: the resolved settings.
    """

    title: str
    created: str
    headline: Sequence[Figure]
    refresh_seconds: int | None
    steps: Sequence[LiveStep]
    curves: Sequence[Curve] = ()
    pictures: Sequence[LivePicture] = ()
    notes: Sequence[str] = ()
    settings_yaml: str = ""


def render_live(report: LiveReport) -> str:
    """Return the whole page."""
    columns = (Column("Step", "name"), Column("State", "text"), Column("Result", "text"))
    return render_page(
        "live.html.j2",
        report=report,
        steps=Table("Steps", columns, [(step.title, step.state, step.result) for step in report.steps]),
        curves=list(_panels(report.curves)),
    )


def _panels(curves: Sequence[Curve]) -> Iterator[tuple[str, "Panel"]]:
    """Yield each curve's title with its panels."""
    if curves:
        from dpt_ray.report.figures import curve_panels  # Matplotlib loads slowly

        for curve in curves:
            yield from ((curve.title, panel) for panel in curve_panels(curve))
