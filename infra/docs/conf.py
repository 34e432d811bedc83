"""Sphinx's settings for `make docs`, which builds the Markdown pages of docs/ as a static site."""

import re

project = "dpt_ray"
html_title = "dpt_ray"
author = "the dpt_ray authors"
copyright = "the dpt_ray authors, Apache-2.0"
extensions = ["myst_parser"]
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
highlight_language = "none"
myst_heading_anchors = 4
myst_links_external_new_tab = False

_LIST_ITEM = re.compile(r"^- .*?(?=^- |^$|\Z)", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"\]\(([^)#:]+)\.md\)")


def listed_pages(text: str) -> list[str]:
    """Return the pages to which the list items of an index page link, in their order and without `.md`."""
    found = [page for item in _LIST_ITEM.findall(text) for page in _PAGE.findall(item)]
    return list(dict.fromkeys(found))


def _add_navigation(app, docname: str, source: list[str]) -> None:
    """Append a toctree of the listed pages to an index page, so that its lists are the site's navigation."""
    if docname.rpartition("/")[2] == "index":
        source[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(listed_pages(source[0])) + "\n```\n"


def setup(app) -> None:
    """Register the hook. Sphinx calls this function."""
    app.connect("source-read", _add_navigation)
