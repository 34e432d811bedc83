"""Artifacts: results addressed by their step, settings and parents, at `<root>/<step>/<fingerprint>/`.

An artifact exists once its manifest does. The manifest is written last, in one atomic write, so the files of a
killed step never count as finished.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.errors import expecting
from dpt_ray.json_values import JsonObject

MANIFEST_FILE = "manifest.json"
REMOVE = "restore the file, or remove the artifact's folder to make it again"
"""Remedy in messages about a damaged file of an artifact."""


def fingerprint(description: Any) -> str:
    """Return the hash of a JSON value, 16 hexadecimal digits: the address of what the value describes."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """A finished result.

    Attributes:
        url: its folder.
        manifest: content of the manifest: step, fingerprint, settings, parents, facts, warnings, files, software,
            seconds, capacity.
    """

    url: str
    manifest: dict[str, Any]

    @property
    def step(self) -> str:
        """The kind of artifact."""
        return str(self.manifest["step"])

    @property
    def fingerprint(self) -> str:
        """Its address among those of its kind."""
        return str(self.manifest["fingerprint"])

    @property
    def address(self) -> str:
        """`<step>/<fingerprint>`."""
        return f"{self.step}/{self.fingerprint}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that it follows from."""
        settings: Mapping[str, Any] = self.manifest["settings"]
        return settings

    @property
    def seconds(self) -> float:
        """Duration of the step in seconds."""
        return float(self.manifest["seconds"])

    @property
    def capacity(self) -> tuple[float, float] | None:
        """CPUs and GPUs of the cluster, or the run's share of them, while it was made; None in older manifests."""
        found = self.manifest.get("capacity")
        return None if found is None else (float(found["cpus"]), float(found["gpus"]))

    @property
    def software(self) -> dict[str, str]:
        """Package -> version with which it was made."""
        software: dict[str, str] = self.manifest["software"]
        return software

    def parent(self, role: str) -> tuple[str, str] | None:
        """Return the step and the fingerprint of a parent; None if it has no such parent."""
        found = self.manifest["parents"].get(role)
        return None if found is None else (found["step"], found["fingerprint"])

    @property
    def facts(self) -> dict[str, Any]:
        """The facts as JSON; `Facts.read` gives them with their types."""
        facts: dict[str, Any] = self.manifest["facts"]
        return facts

    @property
    def warnings(self) -> list[str]:
        """What its step found wrong with it; see `Step.warnings`."""
        return [str(text) for text in self.manifest.get("warnings", [])]

    @property
    def files(self) -> dict[str, int]:
        """Name -> size in bytes of each of its files; empty if an older version wrote the manifest."""
        files: dict[str, int] = self.manifest.get("files", {})
        return files

    def file(self, *parts: str) -> str:
        """Return the URL of a file in the artifact."""
        return stores.join(self.url, *parts)


def read_artifact(folder: str) -> Artifact:
    """Return the finished artifact in a folder.

    Raises:
        UserError: there is no manifest, or it is none that this package wrote.
    """
    url = stores.join(folder, MANIFEST_FILE)
    manifest = stores.read_json(url)
    with expecting("a manifest", url, fix=REMOVE):
        for key, kind in _MANIFEST_TYPES.items():
            if not isinstance(manifest[key], kind):
                raise TypeError(f"{key} is no {kind.__name__}")
        parents = manifest.get("parents", {}).values()
        if not all(isinstance(parent["step"] + parent["fingerprint"], str) for parent in parents):
            raise TypeError("a parent has no address")
        if not all(isinstance(size, int) for size in manifest.get("files", {}).values()):
            raise TypeError("a file has no size")
    return Artifact(folder, manifest)


_MANIFEST_TYPES = {"step": str, "fingerprint": str, "facts": dict}


class ArtifactStore:
    """All artifacts under one root.

    Args:
        root: folder or object-store URL.
    """

    def __init__(self, root: str):
        self.root = stores.absolute_url(root)

    def folder(self, step: str, address: str) -> str:
        """Return the folder of an artifact, which need not exist."""
        return stores.join(self.root, step, address)

    def folders(self, step: str) -> list[str]:
        """Return the fingerprints of a kind of step that have a folder, finished or not."""
        return stores.list_folders(stores.join(self.root, step))

    def find(self, step: str, address: str) -> Artifact | None:
        """Return a finished artifact, or None."""
        folder = self.folder(step, address)
        manifest = stores.join(folder, MANIFEST_FILE)
        return read_artifact(folder) if stores.exists(manifest) else None

    def commit(self, step: str, address: str, manifest: JsonObject) -> Artifact:
        """Write the manifest, which makes the artifact exist."""
        folder = self.folder(step, address)
        manifest = {"step": step, "fingerprint": address, **manifest, "software": software_versions()}
        stores.write_json(stores.join(folder, MANIFEST_FILE), manifest)
        return Artifact(folder, manifest)


def store_of(artifact: Artifact) -> ArtifactStore:
    """Return the store that holds a finished artifact, and with it what the artifact was made from."""
    return ArtifactStore(artifact.url.rsplit("/", 2)[0])


def software_versions() -> dict[str, str]:
    """Return the versions of the packages that compute results."""
    packages = {name: version(name) for name in ("torch", "ray", "numpy", "pyarrow", "pillow")}
    return {"dpt_ray": _own_version(), "python": platform.python_version(), **packages}


def _own_version() -> str:
    from dpt_ray import __version__

    return __version__
