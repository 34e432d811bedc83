"""Text from data is shown, never obeyed: by a terminal, a log, a page or a spreadsheet."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.importing.facts import left_out_table
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.distributed import job_log
from dpt_ray.errors import UserError
from dpt_ray.text import csv_cell, printable, printable_lines

HOSTILE = "a\x1b[31mred\x00\x9bb\r\nc\u202egnp\udcff"


@given(st.text())
def test_printable_text_is_one_line_of_utf8_that_no_terminal_obeys(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    shown.encode()
    assert printable(shown) == shown


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u00a0"), max_size=40))
def test_plain_text_stays_as_it_is(text):
    plain = "".join(c for c in text if c.isprintable())
    assert printable(plain) == plain


def test_lines_stay_lines():
    assert printable_lines("a\n\tb\n") == "a\n\\tb\n"


def test_errors_are_one_plain_line():
    error = UserError(f"holds {HOSTILE}", where=HOSTILE, fix=HOSTILE)
    assert str(error).isprintable()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_shows_hostile_text_escaped(monkeypatch, form):
    monkeypatch.setenv("DPT_LOG_FORMAT", form)
    stream = io.StringIO()
    job_log.tell(HOSTILE, stream=stream)
    written = stream.getvalue()
    assert written.replace("\n", "").isprintable()
    if form == "json":
        assert "red" in json.loads(written)["message"]


@given(st.text())
def test_no_cell_is_a_formula(text):
    assert not str(csv_cell(text)).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_in_cells_stay_numbers():
    assert csv_cell(-3) == -3


def test_the_list_of_what_was_left_out_holds_no_formula():
    skipped = [Skipped("=1+1", "@key", "-reason")]
    table = left_out_table(skipped, [Ignored("+name\n", "=reason")]).decode()
    assert list(csv.reader(table.splitlines()))[1:] == [
        ["refused", "'=1+1", "'@key", "1", "'-reason"],
        ["ignored", "'+name\\n", "", "", "'=reason"],
    ]
