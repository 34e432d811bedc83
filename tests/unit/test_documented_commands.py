"""Every command block of the README and the guide: each `dpt` command is run, with `--dry-run` where it would train.

Commands of other programs are known by name, and what needs a service is on a short list with its reason.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from importing_data import encoded, write

from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import CONTEXT, run_command

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs" / "guide").rglob("*.md"))]

NOT_RUN = {
    "root=s3://dpt/results": "needs an object store; tests/storage runs jobs on one",
    "serve": "serves until it is told to end; tests/unit/test_http_service.py serves",
    "runs": "needs a finished run; tests/unit/test_runs.py makes some",
    "sampling.sampler=ddim": "needs the package that the line before it installs; tests/unit/test_plugins.py does both",
}
"""A word of a `dpt` command that is only parsed here -> why."""

OTHER_PROGRAMS = {
    ".venv/bin/pip": "the environment",
    ".venv/bin/python": "the environment",
    "export": "the shell",
    "make": "targets are looked up in the Makefile",
    "pip": "the environment",
    "ray": "a Ray head; tests/infra and tests/distributed start some",
    "source": "the shell",
    "tensorboard": "a program of its own, which the extra does not install",
}
"""Program of a command that is not `dpt` -> what it needs, or how it is checked."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block, without comments and variables of its environment."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh")]
DPT = {
    f"{name(page)}: {shlex.join(words[1:])}": (page, words[1:])
    for page in WITH_COMMANDS
    for block in blocks(page, "sh")
    for words in commands(block)
    if words[0].rpartition("/")[2] == "dpt"
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with the repository's own beside it, as the commands expect, and photographs."""
    for each in ("configs", "jobs", "tests"):
        (tmp_path / each).symlink_to(REPOSITORY / each)
    classes = [f"{kind}/{number}.png" for kind in ("red apples", "pears", "unlabelled") for number in range(6)]
    for place in ("my photos", "images/train", "images/test"):
        colour = 50 * len(place) % 200  # the images of no two places are equal
        write(str(tmp_path / place), {each: encoded(60, 40, colour) for each in classes})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verb_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and the words after its name."""
    command: click.Command = dpt
    while isinstance(command, click.Group):
        if not words or words[0] not in command.commands:
            break  # a group that does something by itself
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("page", "words"), DPT.values(), ids=DPT.keys())
def test_each_command_does_what_the_page_says_or_would(page, words, folder, capsys):
    if settings := [block for block in blocks(page, "yaml") if block.startswith("preset:")]:
        (folder / "my.yaml").write_text(settings[0])
    command, rest = verb_of(words)
    command.make_context(command.name, list(rest), **CONTEXT)  # every option exists
    if NOT_RUN.keys() & set(words) or "--dry-run" not in {name for option in command.params for name in option.opts}:
        return
    assert run_command(dpt, [*words, *(["--dry-run"] if "--dry-run" not in words else [])]) == 0, capsys.readouterr()


def test_the_list_of_commands_that_are_not_run_holds_no_other():
    words = {word for _, command in DPT.values() for word in command}
    assert NOT_RUN.keys() <= words


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_other_programs_are_known_and_what_they_name_exists(page):
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for words in (words for block in blocks(page, "sh") for words in commands(block)):
        program = words[0]
        assert program.rpartition("/")[2] == "dpt" or program in OTHER_PROGRAMS, words
        if program == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets
        assert all((REPOSITORY / word).is_file() for word in words if word.startswith("jobs/"))


def test_a_block_needs_no_splitting_of_variables_into_words():
    """zsh and PowerShell do not split `$settings`, so pages show a file of settings instead."""
    for page in WITH_COMMANDS:
        assert not [block for block in blocks(page, "sh") if re.search(r"(?<!\")\$\w+", block)], page


def test_no_program_is_on_the_list_in_vain():
    used = {words[0] for page in WITH_COMMANDS for block in blocks(page, "sh") for words in commands(block)}
    assert OTHER_PROGRAMS.keys() <= used


def test_a_wrong_option_and_an_unknown_program_would_be_found():
    (wrong,) = commands(textwrap.dedent("A=1 dpt run \\\n  --confg x  # a comment\n"))
    command, rest = verb_of(wrong[1:])
    with pytest.raises(click.NoSuchOption):
        command.make_context(command.name, rest, **CONTEXT)
