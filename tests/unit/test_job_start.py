"""The start of a job: what is refused and warned about before anything is written or computed."""

import json
import os
from pathlib import Path

import pytest

from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.errors import UserError
from dpt_ray.pipeline.start_checks import SUBMITTED, check_could_write, check_submitted

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0123"


def start(*words: str) -> int:
    return run_job("test", lambda run: run.steps(), arguments=list(words))


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which the job runs."""
    monkeypatch.delenv(SUBMITTED, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("root", ["typo/results", "{folder}/typo/results", "file://{folder}/typo", "typo"])
def test_a_dry_run_writes_nothing(folder, root):
    assert start(*sets(f"root={root.format(folder=folder)}"), "--dry-run") == 0
    assert list(folder.iterdir()) == []


def test_a_dry_run_refuses_a_place_that_cannot_be_written(folder, capsys):
    (folder / "file").write_text("")
    for root in ("file", "file/below", "x" * 300, "/dev/null/x"):
        assert start(*sets(f"root={root}"), "--dry-run") == 2, root
        error = capsys.readouterr().err
        assert "cannot be written" in error
        assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_dry_run_refuses_a_folder_without_the_right_to_write(folder):
    folder.chmod(0o500)
    with pytest.raises(UserError, match="may not be written"):
        check_could_write(str(folder / "results"))
    folder.chmod(0o700)


def test_an_unknown_kind_of_storage_is_one_line(folder, capsys):
    assert start(*sets("root=foo://bucket/x"), "--dry-run") == 2
    assert "no storage is known for this URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override", ["name=../../../escaped", "name=", "name=.", f"name={'x' * 300}", "root=file://res", "root=C:\\data"]
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_names_and_places_are_checked_before_anything_is_made(folder, override, dry):
    assert start(*sets(override), *dry) == 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [5, 9, 11])
def test_a_wrong_number_of_classes_of_the_digits_is_refused_at_the_start(folder, capsys, number):
    assert start(*sets(f"data.num_classes={number}"), "--dry-run") == 2
    assert f"there are 10 classes but data.num_classes is {number}" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["[a, b, c]", "[" + ", ".join("abcdefghijk") + "]"])
def test_class_names_of_the_digits_must_be_ten(folder, capsys, names):
    assert start(*sets("data.num_classes=null", f"data.class_names={names}"), "--dry-run") == 2
    assert "classes but digits has 10" in capsys.readouterr().err
    (folder / "names.txt").write_text("\n".join(names.strip("[]").split(", ")))
    assert start(*sets("data.num_classes=null", "data.class_file=names.txt"), "--dry-run") == 2
    assert "classes but digits has 10" in capsys.readouterr().err


def test_a_class_file_that_names_a_class_twice_is_refused(folder, capsys):
    (folder / "names.txt").write_text("\n".join(["cat", *"abcdefgh", " cat"]))
    assert start(*sets("data.num_classes=null", "data.class_file=names.txt"), "--dry-run") == 2
    assert "lists the class 'cat' twice" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["auto", "cifar10"])
def test_a_wrong_number_of_classes_of_cifar10_is_refused_at_the_start(folder, capsys, format):
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (folder / name).write_bytes(bytes(3073))
    given = ["data.train=.", "data.test=.", "data.image_size=32", "data.channels=3", f"data.format={format}"]
    assert start(*sets(*given, "data.num_classes=100"), "--dry-run") == 2
    assert "there are 10 classes but data.num_classes is 100" in capsys.readouterr().err
    assert start(*sets(*given, "data.num_classes=null"), "--dry-run") == 0


def test_warnings_come_first_in_a_dry_run_too(folder, capsys):
    given = ["stage1.optimizer.betas=[0.1, 0.2]", "stage2.optimizer.warmup_images=99999999"]
    assert start(*sets(*given), "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warning: stage1.optimizer.betas has no effect: it is read with name: adam or adamw")
    assert lines[1].startswith("warning: stage2.optimizer.warmup_images=99999999 goes beyond the end")
    assert not lines[2].startswith("warning")


def test_a_file_warns_of_what_it_gives_without_effect(folder, capsys):
    (folder / "run.yaml").write_text("preset: digits\nstage2: {flow_times: logit_normal, process: edm}\n")
    assert start("--config", "run.yaml", "--dry-run") == 0
    assert capsys.readouterr().out.startswith("warning: stage2.flow_times has no effect: it is read with process: flow")


def test_json_logs_say_that_it_is_a_warning(folder, capsys, monkeypatch):
    monkeypatch.setenv("DPT_LOG_FORMAT", "json")
    assert start(*sets("stage1.optimizer.betas=[0.1, 0.2]"), "--dry-run") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["level"], first["event"]) == ("warning", "setting_warning")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n", "null\n"])
def test_an_empty_configuration_says_that_the_defaults_hold(folder, capsys, text):
    (folder / "empty.yaml").write_text(text)
    assert start("--config", "empty.yaml", "--dry-run") == 0
    told = capsys.readouterr().out.splitlines()[0]
    assert told.startswith("warning: empty.yaml holds no setting")
    assert "2,000,000 and 2,000,000 images" in told


def config(*overrides: str):
    return load_config(None, ["preset=digits"], overrides)


def test_a_submitted_job_with_a_relative_root_is_refused_before_it_computes(folder, capsys, monkeypatch):
    monkeypatch.setenv(SUBMITTED, "{}")
    for words in ([], ["--dry-run"], sets("root=results")):
        assert start(*words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "--set root=s3://BUCKET/PATH" in error
    assert list(folder.iterdir()) == []


RELATIVE = ["data.train=shards/train", "data.test=shards/test"]
ABSOLUTE = ["root=/shared/results", "data.train=/shared/train", "data.test=s3://bucket/test"]
PROBE = ["stage3.model.name=linear_probe"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["root=results"], "root"),
        (["root=./results"], "root"),
        ([f"root={PACKAGE}/results"], "root"),
        ([f"root=file://{PACKAGE}/results"], "root"),
        (["root=/shared", *RELATIVE], "data.train"),
        (["root=/shared", "data.train=/shared/train", "data.test=test"], "data.test"),
        (["root=/x", "data.train=/x", "data.test=/y", "data.train_labels=t", "data.test_labels=/t"], "train_labels"),
        (["root=/shared", "stage2.latents.autoencoder=./vae", "stage2.latents.downsampling=2"], "autoencoder"),
        (["root=/shared", *PROBE, "stage3.probe.encoder=./vit"], "stage3.probe.encoder"),
    ],
)  # fmt: skip
def test_places_in_the_folder_of_a_submitted_job_are_refused(overrides, named):
    submitted = {SUBMITTED: "{}"}
    with pytest.raises(UserError, match=rf"^submitted job: \S*{named} is "):
        check_submitted(config(*overrides), submitted)
    if PACKAGE not in overrides[0]:
        check_submitted(config(*overrides), {})


@pytest.mark.parametrize(
    "overrides",
    [
        ["root=/shared/results"],
        ["root=s3://bucket/dpt"],
        ["root=~/results"],
        ABSOLUTE,
        [*ABSOLUTE, "labels.per_class=null", "labels.file=labels.txt"],  # read by this process alone
        ["root=/shared", *PROBE, "stage3.probe.encoder=facebook/vit-msn-base-4"],
        ["root=/shared", "stage3.probe.encoder=./unread"],
    ],
)
def test_places_that_all_nodes_reach_are_taken(overrides):
    check_submitted(config(*overrides), {SUBMITTED: "{}"})


def test_ray_sets_the_variable_for_the_script_of_a_submitted_job():
    from dpt_ray.distributed.ray_internals import job_config_variable

    assert job_config_variable() == SUBMITTED
