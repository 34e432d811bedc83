"""Shards that were written from images, and what was left out."""

from collections.abc import Sequence
from typing import Any

from dpt_ray.data.importing.import_plan import Ignored, missed_first
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.store import Artifact

NAMED_IN_FACTS = 10
NAMED_IN_LINE = 3
"""Files that the line about a finished step names."""

SHARDS = "shards"
"""Folder of the shards in the artifact."""
LEFT_OUT_FILE = "left_out.csv"
"""Everything that was refused or ignored, a row each."""


def ignored_facts(ignored: Sequence[Ignored]) -> dict[str, Any]:
    """Return what an artifact's facts keep of files that are no part of it."""
    return {
        "files": len(ignored),
        "first": [[entry.name, entry.reason] for entry in missed_first(ignored)[:NAMED_IN_FACTS]],
    }


def say_ignored(ignored: Sequence[Ignored]) -> str:
    """Say in a few words what lies beside the images that are read; nothing if there is nothing."""
    if not ignored:
        return ""
    first = ", ".join(f"{entry.name} ({entry.reason})" for entry in missed_first(ignored)[:NAMED_IN_LINE])
    more = f" and {len(ignored) - NAMED_IN_LINE:,} more" if len(ignored) > NAMED_IN_LINE else ""
    return f"; ignored: {first}{more}"


def written_shards(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the shards of a finished `ImportedShards` in their order, with their URLs."""
    return [{**shard, "url": artifact.file(SHARDS, shard["name"])} for shard in artifact.facts["files"]]


def lost_classes(labels: Sequence[int], names: Sequence[str] | None, where: str) -> UserError:
    """Return the error about classes of which no image can be used."""
    called = [repr(names[label]) if names else str(label) for label in labels[:NAMED_IN_LINE]]
    more = f" and {len(labels) - NAMED_IN_LINE:,} more" if len(labels) > NAMED_IN_LINE else ""
    return UserError(
        f"all images of the class {' and of '.join(called)}{more} had to be left out, so the class would be lost",
        where=where,
        fix="mend its images, or remove the class; data.on_error=fail names the first image with its fault",
    )
