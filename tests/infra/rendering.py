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


def render_with(folder: Path, name: str, component: str) -> list[Document]:
    """Return an overlay's objects with a component added, as a user's own overlay in `folder` does it.

    The component stands inside a copy of the overlay, whose labels must reach what it adds.
    """
    shutil.copytree(KUBERNETES, folder / "k8s")
    kustomization = folder / "k8s" / "overlays" / name / "kustomization.yaml"
    content = yaml.safe_load(kustomization.read_text())
    content["components"] = [*content.get("components", []), f"../../components/{component}"]
    kustomization.write_text(yaml.safe_dump(content))
    return render(kustomization.parent)


def ray_job(documents: list[Document]) -> Document:
    """Return the one RayJob."""
    (job,) = [document for document in documents if document["kind"] == "RayJob"]
    return job
