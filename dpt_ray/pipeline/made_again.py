"""Which artifacts of a run the installed version would make again, and why.

The steps are described from the run's settings as they would be for a new run, and compared with the addresses and
manifests that the run recorded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dpt_ray import __version__
from dpt_ray.config.load import parse_dumped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import Json
from dpt_ray.pipeline.artifacts.run import SETTINGS_FILE
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.runs import RunSummary
from dpt_ray.pipeline.tracking.open_trackers import flat_settings
from dpt_ray.tables import text_table
from dpt_ray.text import shortened

_SHOWN = 3
"""Number of settings that differ in a reason."""


@dataclass(frozen=True)
class MadeAgain:
    """An artifact of a run in whose place a new run would make another.

    Attributes:
        title: name of the step.
        address: that of the run's artifact.
        reason: why it is made again.
    """

    title: str
    address: str
    reason: str


def describe_made_again(root: str, run: RunSummary) -> str:
    """Say which artifacts of a run would be made again, a row for each, or why that is unknown."""
    version = f"dpt_ray {__version__}, which is installed,"
    try:
        found = made_again(root, run)
    except UserError as error:
        return f"what {version} would make again is unknown: {error}"
    if not found:
        return f"{version} would make nothing of it again"
    rows = [["step", "artifact", "reason"], *([one.title, one.address, one.reason] for one in found)]
    return f"{version} would make again:\n{text_table(rows, header=True)}"


def made_again(root: str, run: RunSummary) -> list[MadeAgain]:
    """Return the artifacts of a run that a new run with its settings would make again, parents before children.

    Args:
        root: of the results.
        run: the run.

    Raises:
        UserError: its settings, or the data that they name, cannot be read.
    """
    place = stores.join(run.url, SETTINGS_FILE)
    steps = build(parse_dumped(stores.read_bytes(place), place)).by_id()
    store = ArtifactStore(root)
    found: dict[str, MadeAgain] = {}
    for id, address in run.artifacts.items():
        if id in steps:
            _compare(steps[id], address, store, found)
    return list(found.values())


def _compare(step: Step, address: str, store: ArtifactStore, found: dict[str, MadeAgain]) -> None:
    """Add to `found` in what a step and its ancestors differ from the artifact that a run has in its place."""
    if address in found:
        return
    artifact = store.find(*address.split("/", 1)) if "/" in address else None
    if artifact is None:
        found[address] = MadeAgain(step.title, address, "it is not there")
        return
    if step.address == address:
        return
    recorded = {role: "/".join(artifact.parent(role) or ()) for role in artifact.manifest["parents"]}
    reasons = [*_own_reasons(step, artifact)]
    for role, parent in step.parents.items():
        if role not in recorded:
            reasons.append(f"it is made from {parent.title}, too")
        elif recorded[role] != parent.address:
            _compare(parent, recorded[role], store, found)
            reasons.append(f"it builds on {parent.title}")
    reasons += [f"it is no longer made from its {role}" for role in recorded if role not in step.parents]
    found[address] = MadeAgain(step.title, address, "; ".join(reasons) or "its address is computed in another way")


def _own_reasons(step: Step, artifact: Artifact) -> Iterator[str]:
    version = artifact.manifest.get("version")
    if artifact.step != step.name:
        yield f"it is a {artifact.step}, and now a {step.name} is made"
    elif version != step.version:
        yield f"the step has version {step.version}, it was made by version {version}"
    now, then = _flat(step.settings), _flat(artifact.settings)
    different = [name for name in {**then, **now} if now.get(name, _ABSENT) != then.get(name, _ABSENT)]
    for name in different[:_SHOWN]:
        yield f"{name} is {_shown(now, name)}, and was {_shown(then, name)}"
    if len(different) > _SHOWN:
        yield f"{len(different) - _SHOWN} more settings differ"


_ABSENT = object()


def _flat(settings: Mapping[str, Json]) -> dict[str, object]:
    """Return settings by dotted names, as JSON has them."""
    return {name: value for name, value in flat_settings(json.loads(json.dumps(settings))) if name}


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return shortened(str(settings[name]), 60) if name in settings else "absent"
