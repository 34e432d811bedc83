"""The image is really built and its job run, where buildah is: in chroot mode, without a container engine.

The base image is a stand-in, Debian of the same release with its own Python, so this tests our steps and not the
published base. Packages come from `infra/docker/wheels` or, if that is empty, are downloaded first.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WHEELS = REPOSITORY / "infra/docker/wheels"
BASE, IMAGE = "localhost/python-stand-in:bookworm", "localhost/dpt-ray:test"
TOOLS = ("buildah", "mmdebstrap")
SETTINGS = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
        reason="NOT BUILT: the image needs root, buildah and mmdebstrap (apt-get install buildah mmdebstrap crun)",
    ),
]


def _buildah(folder: Path, *words: str, fails: bool = False) -> str:
    result = subprocess.run(
        ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run"), *words],
        env=os.environ | SETTINGS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode != 0) is fails, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr if fails else result.stdout


def _context(folder: Path) -> Path:
    """Copy what git knows, as a fresh clone would have it, and the packages."""
    context = folder / "context"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.splitlines()):
        if (REPOSITORY / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, context / name)
    wheels = context / "infra/docker/wheels"
    if any(WHEELS.glob("*.whl")):
        shutil.copytree(WHEELS, wheels, dirs_exist_ok=True)
    else:
        requirements = folder / "requirements.txt"
        program = [sys.executable, "infra/docker/list_requirements.py", "pyproject.toml", "encoders,serve"]
        requirements.write_text(subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True).stdout)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]
        download += ["--constraint", str(REPOSITORY / "constraints.txt"), "--requirement", str(requirements)]
        subprocess.run(download, check=True)
        if not any(wheels.glob("torch-*+cpu*")):
            pytest.skip(
                "NOT BUILT: put torch's build without CUDA into infra/docker/wheels (docs/guide/cluster/manifests.md)"
            )
    return context


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A container storage of its own with the built image."""
    folder = tmp_path_factory.mktemp("buildah")
    archive = folder / "base.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(archive)], check=True)
    _buildah(folder, "from", "--name", "base", "scratch")
    _buildah(folder, "add", "base", str(archive), "/")
    _buildah(folder, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "base")
    _buildah(folder, "commit", "--rm", "base", BASE)
    archive.unlink()
    context = _context(folder)
    # What people leave lying about must stay outside.
    (context / "configs" / ".env").write_text("AWS_SECRET_ACCESS_KEY=leaked")
    words = ["--pull-never", "--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", "PIP_NO_INDEX=1"]
    words += ["--file", str(context / "infra/docker/Dockerfile")]
    _buildah(folder, "bud", *words, "--tag", IMAGE, str(context))
    for wheel in (context / "infra/docker/wheels").glob("*.whl"):
        wheel.unlink()
    # A device that there is not ends the build with a line that says so, before anything is installed.
    told = _buildah(
        folder, "bud", *words, "--build-arg", "DEVICE=tpu", "--tag", f"{IMAGE}-tpu", str(context), fails=True
    )
    assert "DEVICE must be cpu or gpu, not 'tpu'" in told
    _buildah(folder, "from", "--pull-never", "--name", "job", IMAGE)
    yield folder
    _buildah(folder, "rm", "--all")
    shutil.rmtree(folder)


def _run(storage: Path, *words: str, fails: bool = False) -> str:
    return _buildah(storage, "run", "job", "--", *words, fails=fails)


def test_the_job_plans_a_run_as_an_ordinary_user(storage):
    plan = _run(
        storage, "python", "jobs/dpt_full.py", "--config", "configs/digits.yaml", "--set", "root=/tmp/out", "--dry-run"
    )
    assert "to make" in plan
    assert "pseudo images: 1,000 images" in plan
    assert _run(storage, "id", "-u").strip() == "1000"


def test_a_training_runs_on_a_ray_of_its_own(storage):
    words = ["root=/tmp/out", "stage1.images=1600", "cluster.local_cpus=2"]
    settings = [part for word in words for part in ("--set", word)]
    told = _run(storage, "python", "jobs/train_classifier.py", "--config", "configs/digits.yaml", *settings)
    place = told.strip().splitlines()[-1].rpartition(": ")[2]
    assert _run(storage, "ls", place).split() != []


def test_packages_are_those_of_the_constraints(storage):
    installed = dict(line.split("==") for line in _run(storage, "pip", "freeze", "--all").splitlines() if "==" in line)
    pinned = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    names = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    for name, version in installed.items():
        if name in ("pip", "setuptools"):  # the virtual environment's own
            continue
        wanted = names[name.lower().replace("_", "-")]
        assert version.split("+")[0] == wanted, name
    assert installed["torch"].endswith("+cpu")
    assert "ray, version " + names["ray"] in _run(storage, "ray", "--version")


def test_the_user_cannot_change_the_code_and_no_secret_is_inside(storage):
    _run(storage, "touch", "/app/jobs/new.py", fails=True)
    _run(storage, "touch", "/opt/venv/new.py", fails=True)
    _run(storage, "test", "-e", "/app/configs/.env", fails=True)
    assert _run(storage, "ls", "-A", "/app").split() == [
        "LICENSE", "configs", "dpt_ray", "healthy.py", "jobs",
    ]  # fmt: skip


def test_the_health_check_passes_in_a_job(storage):
    _run(storage, "python", "/app/healthy.py")
