"""The page of the gallery: markup, stylesheet and script, which `dpt serve` sends as three files.

They hold nothing of the networks: the script asks the service for that, with the token if it needs one.
"""

from functools import lru_cache
from importlib import resources

from dpt_ray.report.page_templates import render_page


@lru_cache(1)
def render_gallery() -> str:
    """Return the page."""
    return render_page("gallery.html.j2")


@lru_cache(1)
def gallery_style() -> str:
    """Return the stylesheet: that of all pages, and the gallery's own."""
    return _template("page.css") + _template("gallery.css")


@lru_cache(1)
def gallery_script() -> str:
    """Return the script."""
    return _template("gallery.js")


def _template(name: str) -> str:
    return (resources.files("dpt_ray.report") / "templates" / name).read_text(encoding="utf-8")
