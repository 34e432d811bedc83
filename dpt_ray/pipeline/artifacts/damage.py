"""Finds out whether the files of a finished artifact are still there, and withdraws an artifact whose files are not.

Only existence and size are compared with the manifest, since a listing costs little. Readers of shards compare
checksums as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.distributed.checkpoints import CHECKPOINT_FOLDER
from dpt_ray.distributed.finished_units import UNITS_FOLDER
from dpt_ray.distributed.kept_state import STATE_FOLDER
from dpt_ray.pipeline.artifacts.claims import CLAIM_FILE
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact

WITHDRAWN_FILE = "withdrawn.json"
"""The names of an artifact's files from its withdrawal until it is made again."""

_NO_FILES_OF_IT = {MANIFEST_FILE, CLAIM_FILE, WITHDRAWN_FILE}
_NO_FOLDERS_OF_IT = (f"{CHECKPOINT_FOLDER}/", f"{STATE_FOLDER}/", f"{UNITS_FOLDER}/")
"""Checkpoints, the final state of a training, which may be removed, and the list of finished units."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with the files of an artifact.

    Attributes:
        files: number of its files.
        missing: names of those that are missing.
        changed: names of those that have another size than when they were written.
    """

    files: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        found = [
            f"{len(names)} of its {self.files} files {verb} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, verb in (
                (self.missing, "are missing" if len(self.missing) > 1 else "is missing"),
                (self.changed, "have another size" if len(self.changed) > 1 else "has another size"),
            )
            if names
        ]
        return " and ".join(found)


def list_own_files(folder: str) -> dict[str, int]:
    """Return the names and sizes in bytes of the files that an artifact consists of.

    Parts of files that a killed process left behind are removed.

    Args:
        folder: URL of the artifact's folder.
    """
    files: dict[str, int] = {}
    for file in stores.list_tree(folder):
        if stores.is_partial(file["name"]):
            stores.remove_tree(file["url"])
        elif file["name"] not in _NO_FILES_OF_IT and not file["name"].startswith(_NO_FOLDERS_OF_IT):
            files[file["name"]] = file["size"] or 0
    return files


def find_damage(artifact: Artifact) -> Damage | None:
    """Return what is wrong with the files of an artifact; None if nothing is, or its manifest does not list them."""
    recorded = artifact.files
    if not recorded:
        return None
    present = {file["name"]: file["size"] for file in stores.list_tree(artifact.url)}
    missing = tuple(sorted(name for name in recorded if name not in present))
    changed = tuple(
        sorted(name for name, size in recorded.items() if name in present and present[name] not in (None, size))
    )
    return Damage(len(recorded), missing, changed) if missing or changed else None


def withdraw(artifact: Artifact, damage: Damage) -> None:
    """Let an artifact count as unfinished: remove its manifest and the changed files. The other files are kept."""
    stores.write_json(artifact.file(WITHDRAWN_FILE), sorted(artifact.files))
    stores.remove_tree(artifact.file(MANIFEST_FILE))
    for name in damage.changed:
        stores.remove_tree(artifact.file(name))


def lacks_withdrawn_files(folder: str, made: Mapping[str, int]) -> bool:
    """Whether files of a withdrawn artifact are missing among those that were made again.

    A step that finds its main file does not look for the others.
    """
    url = stores.join(folder, WITHDRAWN_FILE)
    return stores.exists(url) and not set(read_document(url, list[str], "a list of files")) <= set(made)


def remove_files(folder: str) -> None:
    """Remove all files of an unfinished artifact."""
    for name in list_own_files(folder):
        stores.remove_tree(stores.join(folder, name))
