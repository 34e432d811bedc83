"""Manifests as `kubectl apply -k` would send them."""

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "infra/k8s"
OVERLAYS = ("cpu-smoke", "gpu", "spot", "tune")

Document = dict


def render(folder: Path) -> list[Document]:
    """Return the objects that a kustomization makes.

    Skips the test, with a reason, where neither kubectl nor kustomize is installed.
    """
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        pytest.skip("MANIFESTS NOT CHECKED: neither kubectl nor kustomize is installed")
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr  # kustomize warns of what it will no longer read
    return [document for document in yaml.load_all(result.stdout, yaml.CSafeLoader) if document]


@functools.cache
def render_overlay(name: str) -> str:
    """Return an overlay as YAML, to be read anew by every test that changes it."""
    return yaml.safe_dump_all(render(KUBERNETES / "overlays" / name))


def overlay(name: str) -> list[Document]:
    """Return an overlay's objects, a copy of one's own."""
    return list(yaml.load_all(render_overlay(name), yaml.CSafeLoader))


def ray_job(documents: list[Document]) -> Document:
    """Return the one RayJob."""
    (job,) = [document for document in documents if document["kind"] == "RayJob"]
    return job
