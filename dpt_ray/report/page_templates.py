"""The templates of pages, and how values stand in them: text from data is escaped and printable."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpt_ray.report.grid import grid_png
from dpt_ray.report.image_content import SampleGrid
from dpt_ray.tables import MISSING, format_money, format_number, format_seconds, format_share
from dpt_ray.text import printable_lines


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        heading: shown above it.
        kind: how its cells are set; those of a "name" are the headings of their rows.
    """

    heading: str
    kind: Literal["name", "number", "text", "code"]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        label: names it for screen readers.
        columns: of every row.
        rows: one text a column; an empty one is shown as a dash.
    """

    label: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


_SECTION = re.compile(r'<section id="([^"]+)"><h2>([^<]*)</h2>')


def render_page(template: str, **values: Any) -> str:
    """Return a whole page, one HTML file that needs no network and no scripts.

    Args:
        template: a file in `templates/`.
        values: what the template names; one that it names and that is not given is an error.
    """
    return _ENVIRONMENT.get_template(template).render(values)


def format_date(created: str) -> str:
    """Return an ISO date and time for a reader, in UTC where it states its zone; other text as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64_png(grid: SampleGrid) -> str:
    return _base64(grid_png(grid))


def section_titles(body: Markup) -> list[tuple[str, str]]:
    """Return anchor and title of each section of a page's body, for its list of contents."""
    return [(anchor, Markup(title).unescape()) for anchor, title in _SECTION.findall(body)]


def _printable(value: Any) -> Any:
    # A template escapes what this returns. Markup is what a macro wrote, whose own values came through here.
    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# Escaping is on for every template: Jinja's choice by file name would not know `.html.j2`.
_ENVIRONMENT = Environment(
    loader=PackageLoader("dpt_ray.report"),
    autoescape=True,
    finalize=_printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(date=format_date, number=format_number, base64=_base64, base64_png=_base64_png)
_ENVIRONMENT.filters.update(share=format_share, duration=format_seconds, money=format_money)
_ENVIRONMENT.filters.update(section_titles=section_titles)
_ENVIRONMENT.globals["dash"] = MISSING
