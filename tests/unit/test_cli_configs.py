"""Configurations by name, from a checkout and from an installed wheel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpt_ray.config.load import load_config
from dpt_ray.config.search_settings import load_tune
from dpt_ray.config.shipped import find_config, shipped_configs
from dpt_ray.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


def test_every_file_below_configs_has_one_name():
    runs, searches = shipped_configs(), shipped_configs(searches=True)
    assert sorted([*runs.values(), *searches.values()]) == sorted((REPOSITORY / "configs").rglob("*.yaml"))
    assert {"digits", "sizing/hundred_million"} < runs.keys()
    assert "guidance_scale" in searches


def test_a_name_is_the_shipped_file():
    assert load_config(find_config("digits")).name == "digits"
    assert load_tune(find_config("guidance_scale", searches=True)).name == "guidance_scale"


def test_a_path_is_that_file(folder):
    (folder / "mine.yaml").write_text("")
    (folder / "other").write_text("")
    for given in ("mine.yaml", "./mine.yaml", str(folder / "mine.yaml"), "other"):
        assert find_config(given) == given


@pytest.mark.parametrize("file", ["digits", "digits.yaml"])
def test_a_file_of_a_shipped_name_is_refused_unless_it_is_given_as_a_path(folder, file):
    (folder / file).write_text("")
    with pytest.raises(UserError, match=rf"^--config digits: .*give \./{file} for the file"):
        find_config("digits")
    assert find_config(f"./{file}") == f"./{file}"


def test_a_folder_of_a_shipped_name_is_no_configuration(folder):
    (folder / "digits").mkdir()
    assert Path(find_config("digits")) == REPOSITORY / "configs" / "digits.yaml"


@pytest.mark.parametrize(
    ("given", "searches", "near"),
    [
        ("digit", False, "digits"),
        ("digits.yaml", False, "digits"),
        ("configs/cifar10.yaml", False, "cifar10"),
        ("guidance", True, "guidance_scale"),
    ],
)
def test_a_missing_file_is_answered_with_the_nearest_name(given, searches, near):
    with pytest.raises(
        UserError, match=rf"^{given}: no such config file; did you mean the shipped '{near}'\? shipped "
    ):
        find_config(given, searches)


def test_a_url_is_left_to_the_reader():
    assert find_config("s3://bucket/run.yaml") == "s3://bucket/run.yaml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which a wheel of this checkout is installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("dpt_ray", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    install = ["install", "--no-index", "--no-deps", "--target", str(folder / "target")]
    for words in (build, [*install, "--find-links", str(folder), "dpt_ray"]):
        done = subprocess.run([*pip, *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "target"


def test_a_wheel_holds_every_configuration(installed):
    def listed(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.yaml")}

    assert listed(installed / "dpt_ray" / "configs") == listed(REPOSITORY / "configs")


def test_a_wheel_holds_what_pages_are_made_of(installed):
    templates = "dpt_ray/report/templates"
    assert sorted(path.name for path in (REPOSITORY / templates).iterdir()) == sorted(os.listdir(installed / templates))
    page = "from dpt_ray.report import content, page; print(page.render(content.Report('a', '')))"
    done = subprocess.run(
        [sys.executable, "-c", page], cwd=installed, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "<h1>a</h1>" in done.stdout


@pytest.mark.parametrize("words", [["run", "--config", "digits"], ["tune", "--config", "guidance_scale"]])
def test_an_installed_wheel_plans_a_shipped_configuration_in_an_empty_folder(installed, folder, words):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [str(installed / "bin" / "dpt"), *words, "--dry-run"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "stage 2" in done.stdout
    assert list(folder.iterdir()) == []


def test_the_wheels_own_modules_are_run(installed, folder):
    asked = "import dpt_ray.config.shipped as s; print(s.shipped_folder())"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=folder, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()) == installed / "dpt_ray" / "configs"
