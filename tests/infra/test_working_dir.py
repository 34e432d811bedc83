"""What `ray job submit --working-dir .` uploads, by Ray's own packaging: code and configurations, nothing beside."""

import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from rendering import REPOSITORY

from dpt_ray.distributed.ray_internals import package_working_dir

SECRETS = (
    ".env",
    ".env.local",
    "keys.env",
    "credentials",
    "credentials.csv",
    "service-account.json",
    "environment",
    "token",
    "notes.txt",
    "id_rsa",
    "server.pem",
    "server.key",
    ".git/config",
    ".aws/credentials",
    ".venv/lib/python3.11/site-packages/torch/__init__.py",
    ".venv-object-store/pyvenv.cfg",
    "object_store_data/secret",
    "object_store_data/settings/proxy-server.conf",
    "local_run/environment",
    "local_run/token",
    "dpt_results/classifier/0123456789abcdef/weights.safetensors",
    "dpt_results/runs/digits/config.yaml",
    "data/train/000000.tar",
    "tests/unit/test_images.py",
    "infra/k8s/base/store.env",
    "infra/docker/wheels/torch.whl",
    "configs/.env",
    "configs/keys.env",
    "configs/credentials",
    "configs/id_rsa",
    "configs/my_labels.csv",
    "jobs/.ipynb_checkpoints/dpt_full.py",
    "jobs/token",
    "jobs/keys.env",
    "jobs/server.pem",
    "dpt_ray/data/secret_key.json",
    "dpt_ray/credentials.py",
    "dpt_ray/weights.safetensors",
    "dpt_ray/__pycache__/errors.cpython-311.pyc",
)
"""What people leave lying about in a checkout, and what a run leaves there."""


def _tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what git knows, with secrets planted in it."""
    folder = tmp_path / "checkout"
    for name in _tracked():
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    for name in SECRETS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("planted")
    (folder / "my.yaml").write_text("preset: digits\n")
    return folder


def _uploaded(checkout: Path, package: Path, *, include_gitignore: bool) -> set[str]:
    package_working_dir(str(checkout), package, include_gitignore=include_gitignore)
    with ZipFile(package) as archive:
        assert not [entry for entry in archive.namelist() if archive.read(entry) == b"planted"]
        return set(archive.namelist())


@pytest.mark.parametrize("include_gitignore", [True, False], ids=["with .gitignore", "without .gitignore"])
def test_code_and_configurations_travel_and_nothing_beside(checkout, tmp_path, include_gitignore):
    """RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1 leaves .gitignore out, so .rayignore must do without it."""
    uploaded = _uploaded(checkout, tmp_path / "package.zip", include_gitignore=include_gitignore)
    wanted = {name for name in _tracked() if name.split("/")[0] in ("dpt_ray", "jobs", "configs")}
    assert len(wanted) > 200
    assert uploaded == {*wanted, "my.yaml"}  # a configuration of the user's beside the README


def test_git_knows_none_of_them(checkout):
    """Secrets and results would not be committed by `git add .` either."""
    shutil.rmtree(checkout / ".git")  # a planted one
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=checkout, check=True, capture_output=True)
    listed = subprocess.run(["git", "ls-files"], cwd=checkout, capture_output=True, text=True, check=True)
    added = set(listed.stdout.splitlines())
    must_not = {name for name in SECRETS if name.endswith((".env", ".pem", ".key", "credentials", ".pyc"))}
    must_not |= {name for name in SECRETS if name.split("/")[0] in ("dpt_results", "local_run", "object_store_data")}
    must_not -= {"infra/k8s/base/store.env"}
    assert added & must_not == set()
    assert len(must_not) > 12
