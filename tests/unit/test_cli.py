"""The command `dpt`: exit statuses, one line for what is wrong, quick help, completion."""

import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dpt_ray import __version__
from dpt_ray.cli import completion, export, study
from dpt_ray.cli.guard import FAILURE, INTERRUPTED, USER_MISTAKE
from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import CONTEXT, run_command
from dpt_ray.config.load import setting_names
from dpt_ray.experiments.study import curve, generators
from dpt_ray.experiments.study import stage3_gain as mixing
from dpt_ray.pipeline.dpt import DualPseudoTraining

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = {
    "dpt_full": "run", "prepare_data": "prepare", "train_encoder": "train-encoder",
    "train_classifier": "train-classifier", "pseudo_label": "pseudo-label", "train_generator": "train-generator",
    "sample": "sample", "retrain": "retrain", "evaluate": "evaluate", "tune": "tune", "study": "study",
    "benchmark": "benchmark", "export": "export", "predict": "predict", "generate": "generate",
    "suggest_labels": "suggest-labels",
}  # fmt: skip


def call(*words: str) -> int:
    return run_command(dpt, words, NAME)


def commands(command: click.Command = dpt, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and group of commands."""
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return [words, *(found for name, each in inner for found in commands(each, (*words, name)))]


def test_every_script_is_a_command_and_every_command_but_those_for_a_terminal_is_a_script():
    assert {path.stem for path in (REPOSITORY / "jobs").glob("*.py")} == SCRIPTS.keys()
    assert {*SCRIPTS.values(), "init", "serve", "runs", "compare", "completion"} == dpt.commands.keys()


@pytest.mark.parametrize(("script", "command"), SCRIPTS.items())
def test_a_script_is_its_command_by_its_own_name(script, command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"jobs/{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / "jobs" / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: {script}.py ")
    assert call(command, "--help") == 0
    assert said.partition("\n")[2] == capsys.readouterr().out.partition("\n")[2]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_a_terminal_and_has_an_example(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call(*words, "-h") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]  # a summary that is cut
    group = dpt
    for word in words:
        group = group.commands[word]
    if not words or not isinstance(group, click.Group):
        assert f"\n    {' '.join(['dpt', *words])} " in text or words == ("completion",)


EXAMPLES = [
    line.strip()
    for words in commands()
    for group in [dpt if not words else dpt.commands[words[0]]]
    for command in [group.commands[words[1]] if len(words) > 1 else group]
    for line in (command.epilog or "").splitlines()
    if line.startswith("  dpt ")
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_is_a_right_command_line(line):
    """It is parsed as the shell and click parse it; what it names is not made."""
    words, command = shlex.split(line)[1:], dpt
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    assert command.make_context("dpt", words, **CONTEXT).params


def test_the_version_is_that_of_the_package(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"dpt {__version__}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("runn", "dpt: no such command 'runn'; did you mean 'run'?"),
        ("train-gen", "dpt: no such command 'train-gen'; did you mean 'train-generator'?"),
        ("--verion", "dpt: no such option --verion; did you mean '--version'?"),
        ("run --dry", "dpt run: no such option --dry; did you mean '--dry-run'?"),
        ("run --nothing-like-it", "dpt run: no such option --nothing-like-it; 'dpt run --help' shows its options"),
        ("run x.yaml", "dpt run: got unexpected extra argument (x.yaml); 'dpt run --help' shows its options"),
        ("run --set", "option '--set' requires an argument"),
        ("tune", "dpt tune: --config is missing; 'dpt tune --help' shows its options"),
        ("benchmark data", "dpt benchmark data: --shards is missing; 'dpt benchmark data --help' shows its options"),
        (
            "export generator a",
            "dpt export generator: DEST is missing; 'dpt export generator --help' shows its options",
        ),
        ("export classifier a b --stage 2", "dpt export classifier --stage: '2' is not known; there are: '1', '3'"),
        (
            "export import-uvit f --process edn",
            "dpt export import-uvit --process: 'edn' is not known; did you mean 'edm'?",
        ),
        *(
            (f"export import-uvit f --scale {s}", f"dpt export import-uvit --scale: '{s}' is not a number above 0")
            for s in ("0", "-1", "inf", "nan", "x")
        ),
        ("study mixng", "dpt study: no such command 'mixng'; did you mean 'mixing'?"),
        (
            "study mixing --mixings offical",
            "dpt study mixing --mixings: 'offical' is not known; did you mean 'official'?",
        ),
        ("study mixing --seeds 0 one", "dpt study mixing --seeds: 'one' is not a valid integer"),
        ("run --set seed=1 --set seed=2", "--set seed=2: contradicts --set seed=1; give one of them"),
        ("study curve --set seed=1 --set seed=2", "--set seed=2: contradicts --set seed=1; give one of them"),
        (
            "run --set stage1.imagse=3",
            "--set stage1.imagse=3: unknown setting 'stage1.imagse'; did you mean 'stage1.images'?",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_the_remedy(words, line, capsys):
    assert call(*words.split()) == USER_MISTAKE
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_wrong_options_are_told_in_json_too(monkeypatch, capsys):
    monkeypatch.setenv("DPT_LOG_FORMAT", "json")
    assert call("run", "--dry") == USER_MISTAKE
    record = json.loads(capsys.readouterr().err)
    assert (record["level"], record["event"]) == ("error", "error")
    assert record["message"].endswith("did you mean '--dry-run'?")


def test_without_a_command_the_help_is_no_success(capsys):
    assert call() == USER_MISTAKE
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: run the same command again to resume"),
        (ZeroDivisionError("of the test"), FAILURE, "error: ZeroDivisionError: of the test"),
        (OSError(28, "No space left on device", "/full/file"), USER_MISTAKE, "error: "),
    ],
)
@pytest.mark.parametrize("words", ["run", "study confidence", "export generator a b", "benchmark augment"])
def test_all_commands_end_alike(words, raised, status, line, monkeypatch, capsys):
    def fail(*parameters, **named):
        raise raised

    for place in (
        "dpt_ray.pipeline.jobs.make_targets", "dpt_ray.experiments.study.confidence.compare_confidence",
        "dpt_ray.pipeline.export_run.export_generator", "dpt_ray.benchmark.contest.limited_threads",
    ):  # fmt: skip
        monkeypatch.setattr(place, fail)
    assert call(*words.split()) == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(line)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        ([], (0, 1, 2)),
        (["--seeds", "4"], (4,)),
        (["--seeds", "4", "5", "6"], (4, 5, 6)),
        (["--seeds", "4", "--seeds", "5", "6"], (4, 5, 6)),
        (["--seeds=4", "--seeds", "-5", "6"], (4, -5, 6)),
        (["--seeds", "4", "5", "--per-class", "1", "4"], (4, 5)),
    ],
)
def test_options_of_several_values_take_them_one_after_another(words, seeds, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(
        "dpt_ray.experiments.study.confidence.compare_confidence", lambda **options: given.update(options) or []
    )
    monkeypatch.setattr("dpt_ray.experiments.study.confidence.confidence_table", lambda figures: "table")
    assert call("study", "confidence", "--output", str(tmp_path), *words) == 0
    assert (given["seeds"], given["per_class"]) == (seeds, (1, 4))
    assert (tmp_path / "confidence.md").read_text() == "table\n"


def test_a_job_makes_the_steps_that_its_name_says(monkeypatch):
    wanted = {}
    monkeypatch.setattr(
        "dpt_ray.pipeline.jobs.make_targets",
        lambda file, overrides, targets, finish, **options: wanted.update(file=file, targets=targets, finish=finish),
    )
    run = type("Run", (), {name: name for name in DualPseudoTraining.__dataclass_fields__})()
    steps = {}
    for command in ("prepare", "train-classifier", "pseudo-label", "train-generator", "sample", "retrain", "evaluate"):
        assert call(command, "--config", "digits") == 0
        assert wanted["file"] == str(REPOSITORY / "configs" / "digits.yaml")
        steps[command] = wanted["targets"](run)
    assert steps == {
        "prepare": ["train_data", "test_data"], "train-classifier": ["classifier"], "pseudo-label": ["pseudo_labels"],
        "train-generator": ["generator"], "sample": ["pseudo_images"], "retrain": ["retrained"],
        "evaluate": ["evaluation"],
    }  # fmt: skip


def test_a_shipped_search_is_planned_by_its_name(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("tune", "--config", "guidance_scale", "--dry-run") == 0
    assert "trials" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def python(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


SLOW = {"torch", "ray", "numpy", "fsspec", "matplotlib", "webdataset", "scipy"}
LOADED = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", sorted({SLOW!r} & sys.modules.keys()), file=sys.stderr))
from dpt_ray.cli.main import main
sys.argv = ["dpt", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("words", [[], *(list(words) for words in commands() if len(words) < 3)], ids=" ".join)
def test_help_loads_nothing_slow(words):
    done = python("-c", LOADED, *words, "--help")
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")


def completed(line: str) -> list[str]:
    """What bash is offered at the end of a line."""
    words = line.split(" ")
    environment = {"_DPT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = python("-c", LOADED, **environment)
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")
    return [offered.removeprefix("plain,") for offered in done.stdout.split()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dpt tr", ["train-encoder", "train-classifier", "train-generator"]),
        ("dpt run --d", ["--dry-run"]),
        ("dpt run --config imagenet", ["imagenet256_h", "imagenet256_l", "file,imagenet"]),
        ("dpt tune --config gui", ["guidance_scale", "file,gui"]),
        ("dpt run --set stage1.imag", ["stage1.images"]),
        ("dpt study generators --processes 1 --variants true", ["true", "labels"]),
        ("dpt export import-uvit --process ed", ["edm"]),
        ("dpt export import-uvit --process ", None),
    ],
)
def test_a_shell_is_offered_commands_options_configurations_and_settings(line, offered):
    if offered is None:
        offered = list(export._processes())
    assert completed(line) == offered


def test_every_setting_can_be_completed():
    assert [item.split(",")[-1] for item in completed("dpt run --set ")] == list(setting_names())


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_shell_gets_its_script(shell, capsys):
    assert call("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_DPT_COMPLETE" in script
    assert "dpt" in script


def test_bash_completes_by_that_script(tmp_path):
    """In bash itself, as after the line in ~/.bashrc."""
    dpt_script = tmp_path / "dpt"
    dpt_script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dpt_ray "$@"\n')
    dpt_script.chmod(0o755)
    lines = """
    eval "$(dpt completion bash)"
    COMP_WORDS=(dpt retr) COMP_CWORD=1
    $(complete -p dpt | sed -E 's/.*-F ([^ ]+).*/\\1/') dpt retr dpt
    echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("retrain\n", "")


def test_mixings_that_commands_list_are_those_that_are_run():
    assert study.MIXINGS is mixing.MIXINGS
    assert study.VARIANTS is generators.VARIANTS
    assert study.MEASURES is curve.MEASURES
