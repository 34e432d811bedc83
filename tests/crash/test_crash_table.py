"""The page of crashes shows the rows of its table."""

from pathlib import Path

from table import markdown, read_table, summary

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_the_page_shows_the_rows_of_the_table():
    rows = read_table(RESULTS / "crashes.jsonl")
    page = (RESULTS / "crashes.md").read_text()
    assert markdown(rows) in page
    assert summary(rows) in page
