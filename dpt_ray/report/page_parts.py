"""What pages are made of: the document with its style, and the pieces that several sections share, as HTML."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template

from dpt_ray.report.canvas import Panel
from dpt_ray.report.content import Figure
from dpt_ray.tables import MISSING
from dpt_ray.text import html_text

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbf9; --card: #fff; --text: #1d2329; --muted: #59636e; --line: #d3d7d2;
  --series-1: #1f5fa8; --series-2: #b3500b; --series-3: #2f7a4f; --series-4: #7d3fa0; --note: #fdf4e3; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --text: #e4e7ea; --muted: #9da8b3;
  --line: #343b42; --series-1: #78aeea; --series-2: #eda35f; --series-3: #79c99a; --series-4: #c79be6;
  --note: #2b2519; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.muted, section > p, figcaption { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 1.8rem 0 0; }
.cards > div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.cards dt { color: var(--muted); font-size: .875rem; }
.cards dd { margin: 0; font-size: .8125rem; color: var(--muted); line-height: 1.4; }
.cards .value { font-size: 1.5rem; line-height: 1.5; color: var(--text); font-variant-numeric: tabular-nums; }
.notes { margin: 1.4rem 0 0; padding: 12px 16px 12px 34px; background: var(--note); border-radius: 8px;
  border-left: 4px solid var(--series-2); }
figure { margin: 0; }
figcaption { font-size: .875rem; margin-top: .5rem; }
.samples { display: grid; grid-template-columns: fit-content(min(30%, 11rem)) auto;
  column-gap: 12px; justify-content: start; }
.samples ol { list-style: none; margin: 0; padding: 0; display: grid; grid-auto-rows: minmax(0, 1fr); min-width: 0; }
.samples li { display: flex; align-items: center; min-width: 0; font-size: .8125rem; line-height: 1.1; }
.samples li span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.samples img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 8px 24px; }
svg { display: block; width: 100%; height: auto; }
.panels h3 { margin: 1rem 0 .2rem; }
.comparison { max-width: 640px; margin-bottom: 1.6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4; }
th, td { text-align: left; vertical-align: top; padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
.name { min-width: 7rem; max-width: 22rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.text { min-width: 13rem; }
code, pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; color: var(--muted); }
pre { overflow-x: auto; padding: 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--series-1); }
@media (max-width: 600px) { main { padding: 24px 16px 48px; } h1 { font-size: 1.5rem; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } .cards .value { font-size: 1.4rem; } }
"""

# The policy forbids every request and script, so even a fault in escaping could load or run nothing.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def document(title: str, body: str) -> str:
    """Return a whole page from its title, as text, and its body, as HTML."""
    return _PAGE.substitute(title=html_text(title), style=_STYLE, body=body)


def format_date(created: str) -> str:
    """Return an ISO date and time for a reader, in UTC where it states its zone; other text as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def figure_cards(figures: Sequence[Figure]) -> str:
    """Return the figures as a row of cards; nothing if there is none."""
    cards = "".join(
        f'<div><dt>{html_text(figure.label)}</dt><dd class="value">{html_text(str(figure.value))}</dd>'
        f"<dd>{html_text(figure.note)}</dd></div>"
        for figure in figures
    )
    return f'<dl class="cards">{cards}</dl>' if cards else ""


def note_list(notes: Sequence[str]) -> str:
    """Return the notes as a list that stands out; nothing if there is none."""
    items = "".join(f"<li>{html_text(note)}</li>" for note in notes)
    return f'<ul class="notes" role="note" aria-label="Notes">{items}</ul>' if items else ""


def inline_picture(panel: Panel) -> str:
    """Return a panel as an `<svg>` element that says what it shows."""
    return panel.svg.replace("<svg", f'<svg role="img" aria-label="{html_text(panel.alt)}"', 1)


@dataclass(frozen=True)
class Column:
    """A table column: its heading, and how its cells are set (name, number, text or code)."""

    heading: str
    kind: str


def html_table(label: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls sideways on a narrow screen; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col" class="{column.kind}">{html_text(column.heading)}</th>' for column in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, columns, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(column: Column, text: str) -> str:
    content = html_text(text) or MISSING
    if column.kind == "name":
        return f'<th scope="row" class="name">{content}</th>'
    return f'<td class="{column.kind}">{f"<code>{content}</code>" if column.kind == "code" else content}</td>'


def page_section(anchor: str, title: str, lead: str, body: str) -> str:
    """Return a section; title and lead are HTML, too."""
    return f'<section id="{anchor}"><h2>{title}</h2><p>{lead}</p>\n{body}</section>'
