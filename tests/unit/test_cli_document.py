"""docs/reference/command-line.md is generated: it must say what `--help` says."""

from pathlib import Path

from dpt_ray.cli.document import COMMAND, render_command_line
from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import run_command

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_document_is_up_to_date():
    assert DOCUMENT.read_text() == render_command_line(), (
        f"docs/reference/command-line.md is out of date, run: {COMMAND}"
    )


def test_it_shows_what_a_terminal_shows(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["run"], ["study", "mixing"], ["benchmark", "train"]):
        assert run_command(dpt, [*words, "--help"], NAME) == 0
        assert f"```\n{capsys.readouterr().out.rstrip()}\n```" in DOCUMENT.read_text()
