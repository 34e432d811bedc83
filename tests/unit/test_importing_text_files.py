"""Text files that people write: any editor's encoding and line ends; everything else is one line."""

import codecs
import gzip
import io
import lzma
import os
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import new_place, write

from dpt_ray.data.importing import text_files
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.errors import UserError

ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def lines_of(content: bytes) -> list[str]:
    url = write(new_place("memory", None), {"a.txt": content}) + "/a.txt"
    return list(read_lines(url, "list"))


def complaint(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        lines_of(content)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition("a.txt: ")[2]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_are_told_by_the_byte_order_mark(encoding):
    text = "cat/é.png\r\ndog/犬.png\n"
    assert lines_of(ENCODINGS[encoding] + text.encode(encoding)) == ["cat/é.png\r\n", "dog/犬.png\n"]


@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\r\n\0\ufeff", codec="utf-8"), max_size=6)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.integers(1, 9),
)
def test_lines_come_back_wherever_the_ranges_end(lines, end, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_RANGE_BYTES", size)
        assert lines_of("".join(line + end for line in lines).encode()) == [line + end for line in lines]


def test_a_last_line_needs_no_end_and_an_empty_file_has_no_lines():
    assert lines_of(b"a\nb") == ["a\n", "b"]
    assert lines_of(b"") == []
    assert lines_of(codecs.BOM_UTF8) == []


def test_what_is_no_text_is_refused_with_its_line():
    fix = "; save it as UTF-8 text"
    assert complaint(b"a\nb\ncaf\xe9\n") == "is not a readable list (line 3 is not UTF-8 text)" + fix
    assert complaint("a\nb\n".encode("utf-16-le")) == "is not a readable list (line 1 holds a NUL character)" + fix
    assert complaint(codecs.BOM_UTF16_LE + b"a\0\n") == "is not a readable list (line 1 is not UTF-16 text)" + fix


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE", 100)
    monkeypatch.setattr(text_files, "_RANGE_BYTES", 64)
    assert complaint(b"a\n" + b"x" * 10_000).startswith("is not a readable list (line 2 is longer than 100 characters)")


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", ("Git LFS pointer", "git lfs pull")),
        (gzip.compress(b"file,label\n", mtime=0), ("gzip", "unpack")),
        (lzma.compress(b"file,label\n"), ("xz", "unpack")),
        (_zipped(), ("spreadsheet", "save the sheet as CSV")),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", (".xls", "save the sheet as CSV")),
        (b"PAR1\x15\0", ("Parquet", "data.format=parquet")),
        (b"\xef\xbb\xbf  <!DOCTYPE html>\n<html>", ("web page", "download")),
    ],
)
def test_other_files_are_recognised_and_the_remedy_is_named(content, words):
    assert all(word in complaint(content) for word in words)


def test_pipes_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read .*a named pipe, which is never opened"):
        next(read_lines(str(tmp_path / "pipe"), "list"))
    with pytest.raises(UserError, match=r"/dev/zero: cannot be read .*a device, which is never opened"):
        next(read_lines("/dev/zero", "list"))
    with pytest.raises(UserError, match="cannot be read"):
        next(read_lines(str(tmp_path), "list"))


def test_blank_lines_are_read_up_to_a_number():
    most = text_files.MAX_BLANK_LINES
    assert len(lines_of(b"\n" * most + b"text")) == most + 1
    assert "it has more than 1,000,000 blank lines" in complaint(b"text\n" + b" \n" * (most + 1) + b"text")
